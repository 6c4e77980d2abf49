"""Our packages as one archive that a job brings along: nodes need the libraries, but not ltx_ray itself.

One archive, so that the packages lie side by side and are of one version wherever Ray unpacks it. Its name is
made of its content, so that a cluster that has it is not sent it again.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ltx_ray.packages import HOME, PACKAGES

# Ray's dashboard takes packages of at most 100 MiB.
MOST_BYTES = 100 * 2**20
# What is shipped besides modules, as in package-data of pyproject.toml.
_DATA = ("ltx_ray/checkpoints/tiny",)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time of an archive
_QUICK = 1  # weights hardly become smaller, whatever the effort
_VERSION = b"1"  # of how the archive is made


def shipped() -> list[str]:
    """Names of the files that a job needs, relative to their home: modules and the built-in checkpoint."""
    return sorted(path.relative_to(HOME).as_posix() for path in _found() if not _is_junk(path))


def _found() -> Iterator[Path]:
    for package in PACKAGES:
        for inner in (HOME / package).rglob("__init__.py"):  # folders without one are no part of it
            yield from inner.parent.glob("*.py")
    for folder in _DATA:
        yield from (path for path in (HOME / folder).rglob("*") if path.is_file())


def _is_junk(path: Path) -> bool:
    parts = path.relative_to(HOME).parts
    return any(part == "__pycache__" or part.startswith(".") for part in parts)


def archive_name(names: list[str]) -> str:
    """The archive's name for Ray."""
    total = hashlib.sha256(_VERSION)
    for name in names:
        digest = hashlib.sha256((HOME / name).read_bytes()).hexdigest()
        total.update(f"{name} {digest}\n".encode())
    return f"_ray_pkg_{total.hexdigest()}.zip"


def archive(names: list[str]) -> bytes:
    """A zip file of ``names``; none of them make an empty one."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=_QUICK) as file:
        for name in names:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            file.writestr(entry, (HOME / name).read_bytes(), zipfile.ZIP_DEFLATED, _QUICK)
    return made.getvalue()

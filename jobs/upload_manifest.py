"""A manifest of this machine, and the sounds and images that its rows name, for a cluster that cannot see it.

The rules are those of ``render``: a file is copied only where a row may name it (``ltx_ray.media.access``).
Any other row is left as it is, for ``render`` to reject: no file of another machine lies where it points to.

The copy is JSON lines, whatever the manifest is, with the same rows in the same order. A row that names
copies keeps the id that it has among the rows of the manifest, which decides its seed; what it named stands
in its column ``uploaded_from``.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.uploads import INPUTS, Uploads
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ManifestError, MediaError
from ltx_ray.manifest.content import RawRow, is_unicode
from ltx_ray.manifest.identity import Assigned, IdBook, identify
from ltx_ray.manifest.index import index_manifest
from ltx_ray.manifest.read import folder_of, read_rows
from ltx_ray.manifest.row import RowError
from ltx_ray.manifest.shot import parse_row
from ltx_ray.manifest.text_rows import MAX_LINE
from ltx_ray.media.access import Access

_TOLD = 20  # files that could not be copied
_SOURCE = "uploaded_from"
# What is wrong with a line as JSON (``ltx_ray.manifest.text_rows``).
_OF_JSON = ("must be a JSON object", "must be JSON that")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What became of a manifest."""

    name: str  # of the copy, relative to OUT
    num_missing: int  # files that rows may name, but that could not be copied
    missing: tuple[str, ...]  # what is wrong with the first of them


def upload_manifest(manifest: str, config: RenderConfig, uploads: Uploads) -> Upload:
    """Copy ``manifest`` and what it names. Raises ManifestError where it cannot be read, StorageError."""
    rewriting = _Rewriting(manifest, config, uploads)
    with tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder, uploads:
        copy = Path(folder) / "manifest.jsonl"
        with copy.open("w", encoding="utf-8") as file:
            file.writelines(rewriting.lines())
        name = uploads.add(copy)
    return Upload(
        name=f"{INPUTS}/{name}", num_missing=rewriting.num_missing, missing=tuple(rewriting.missing)
    )


class _Rewriting:
    """One pass over a manifest."""

    def __init__(self, manifest: str, config: RenderConfig, uploads: Uploads) -> None:
        self.num_missing = 0
        self.missing: list[str] = []
        self._manifest, self._config, self._uploads = manifest, config, uploads
        self._base = folder_of(manifest)
        self._access = Access.of_rows(self._base, config.inputs)

    def lines(self) -> Iterator[str]:
        """The rows of the copy."""
        book = IdBook(index_manifest(self._manifest, self._config).duplicates)
        for raw in read_rows(self._manifest):
            line = self._line(raw, book.assign(raw, identify(raw)))
            if len(line) >= MAX_LINE:
                raise ManifestError(
                    f"manifest {self._manifest}: a row must have at most {MAX_LINE:,} characters of JSON to "
                    f"be uploaded, row {raw.number} has {len(line):,}: put the manifest and its files where "
                    "every node sees them, and give --no-upload"
                )
            yield f"{line}\n"

    def _line(self, raw: RawRow, assigned: Assigned) -> str:
        if raw.values is None:
            return _broken(raw)
        try:
            shot = parse_row(raw, self._config, self._base, assigned, self._access)
        except RowError:
            return _json(raw.values)
        named = {"audio": (shot.audio, self._access), "image": (shot.image, self._access.of_images())}
        copies: dict[str, str] = {}
        for column, (path, access) in named.items():
            if path is not None and "://" not in path:
                name = self._copied(f"row {raw.number}: {column}", path, access)
                if name is not None:
                    copies[column] = name
        if not copies:
            return _json(raw.values)
        sources = {_SOURCE: {column: raw.values[column] for column in copies}}
        return _json({**sources, **raw.values, "id": shot.id, **copies})

    def _copied(self, where: str, path: str, access: Access) -> str | None:
        """The name of the copy of a file; None: there is none."""
        try:
            return self._uploads.add(access.opened_path(path))
        except MediaError as error:
            problem = str(error)
        except OSError as error:
            problem = f"media must be readable, got {path}: {error.strerror}"
        self.num_missing += 1
        if len(self.missing) < _TOLD:
            self.missing.append(f"{where}: {problem}")
        return None


def _json(values: dict[str, Any]) -> str:
    text = json.dumps(values, ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(values)


def _broken(raw: RawRow) -> str:
    """A line that cannot be read either: the row's own, where it is broken JSON; else what is wrong."""
    is_line = (raw.error or "").startswith(_OF_JSON) and is_unicode(raw.text)
    return raw.text if is_line else json.dumps(raw.error)

"""What a job brings along is what is installed otherwise: no less, no junk, and the same bytes each time."""

import io
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from cluster.shipment import MOST_BYTES, archive, archive_name, shipped
from ltx_ray.packages import HOME

ROOT = Path(__file__).resolve().parent.parent


def installed() -> set[str]:
    """Files that pip would install, as pyproject.toml names them."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = set()
    for package in tools["packages"]:
        found |= set((ROOT / package.replace(".", "/")).glob("*.py"))
    for package, patterns in tools["package-data"].items():
        for pattern in patterns:
            found |= set((ROOT / package.replace(".", "/")).glob(pattern))
    return {path.relative_to(ROOT).as_posix() for path in found if path.is_file()}


def test_all_that_is_installed_is_shipped_and_nothing_else(tmp_path: Path) -> None:
    assert HOME == ROOT
    assert set(shipped()) == installed()


def test_the_archive_works_alone_and_is_small_enough(tmp_path: Path) -> None:
    data = archive(shipped())
    assert len(data) < MOST_BYTES / 2
    assert archive(shipped()) == data
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert file.namelist() == shipped()
        file.extractall(tmp_path)
    words = [sys.executable, "-P", "-m", "jobs.cli", "validate", str(ROOT / "examples/minimal.csv")]
    done = subprocess.run(
        words, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_name_is_of_the_content() -> None:
    names = shipped()
    assert archive_name(names) == archive_name(list(names))
    assert len({archive_name(names), archive_name(names[1:]), archive_name([])}) == 3

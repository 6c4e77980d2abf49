"""Checkpoints made of others: a trained part or audio adapter beside all that stays.

Files are linked where the disk can, else copied: a checkpoint of many gigabytes is made in no time.
"""

import shutil
from pathlib import Path

from ltx_ray.models.weight_files import ADAPTER_FILE


def with_part(base: Path, part: str, made: Path, folder: Path) -> None:
    """Write to ``folder`` the checkpoint ``base`` with its folder ``part`` replaced by ``made``."""
    _without(base, part, folder)
    shutil.copytree(made, folder / part, copy_function=_linked)


def with_adapter(base: Path, adapter: Path, folder: Path) -> None:
    """Write to ``folder`` the checkpoint ``base`` with the audio adapter of the folder ``adapter``."""
    _without(base, ADAPTER_FILE, folder)
    _linked(str(adapter / ADAPTER_FILE), str(folder / ADAPTER_FILE))


def _without(base: Path, name: str, folder: Path) -> None:
    """``folder`` anew (or as it is, where it is ``base``): the checkpoint ``base`` but for ``name``."""
    if folder == base:
        _removed(folder / name)
        return
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(base, folder, copy_function=_linked, ignore=shutil.ignore_patterns(name))


def _removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _linked(source: str, target: str) -> str:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
    return target

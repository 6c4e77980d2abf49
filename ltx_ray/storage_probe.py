"""Proves that OUT can carry a run: by doing there, with a file of its own, what a run will do.

A run stands on files that are created once and never replaced. Some stores replace them without a word.
"""

import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ltx_ray.errors import LtxRayError
from ltx_ray.storage import Store

_FIRST = b"the first one\n"
_SECOND = b"another one\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """How a store behaves. The later facts are None where an earlier one made them useless."""

    url: str
    is_local: bool
    free: int | None = None  # bytes; None: not known, as of object stores
    problem: str | None = None  # why it could not be tried to the end
    refuses_second: bool | None = None  # a second file of the same name, which leaves the first as it was
    reads_back: bool | None = None
    lists: bool | None = None  # the file, among those of its folder
    left_behind: str | None = None  # why what was written could not be deleted


class StoreProbe:
    """Tries out the store at a URL; what it writes lies in a folder of its own until ``clear``."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that names no store."""
        self._store = Store(url)
        self._folder = f"doctor-{uuid.uuid4().hex}"
        self.name = f"{self._folder}/create-only"  # the file that is created
        self.content = _FIRST  # what it holds
        root = self._store.local("") if self._store.is_local else None
        self._made = [path for path in (root, *root.parents) if not _exists(path)] if root else []
        self._is_written = False

    def try_out(self) -> StoreFacts:
        """Write, write again, read and list."""
        store = self._store
        facts = StoreFacts(url=store.url, is_local=store.is_local, free=self._free())
        try:
            if not store.create(self.name, _FIRST):
                return replace(facts, problem=f"{store.path(self.name)}, a new name, is taken already")
            self._is_written = True
            second = store.create(self.name, _SECOND)
            self.content = data = store.read(self.name)
            return replace(
                facts,
                refuses_second=not second and data != _SECOND,
                reads_back=data in (_FIRST, _SECOND),
                lists=self.name in store.list(self._folder),
            )
        except (LtxRayError, FileNotFoundError) as error:
            return replace(facts, problem=str(error))

    def clear(self) -> str | None:
        """Delete what was written, and folders that were not there before; in words, why it cannot."""
        try:
            self._store.delete(self._folder)
            left = self._store.list(self._folder)
        except LtxRayError as error:
            return str(error) if self._is_written else None
        for path in self._made:
            with suppress(OSError):  # another process has begun to use it
                path.rmdir()
        return f"{len(left)} files are still in {self._store.path(self._folder)}" if left else None

    def _free(self) -> int | None:
        if not self._store.is_local:
            return None
        root = self._store.local("")
        nearest = next((path for path in (root, *root.parents) if _exists(path)), Path(root.anchor))
        return shutil.disk_usage(nearest).free


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder above it may not be looked into
        return False

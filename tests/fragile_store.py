"""A store in memory that dies when it is told to: in the midst of a write, as without power."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class PowerLossError(BaseException):
    """The machine is gone in the midst of a write: no code of ours may catch this."""


class FragileFileSystem(MemoryFileSystem):
    """An object store in memory that dies with its ``dies_in``-th change, before or after it."""

    protocol = "fragile"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    dies_in: int | None = None
    dies_with: type[BaseException] = PowerLossError

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if "r" in mode:
            return super()._open(path, mode, **options)
        self._change()
        return super()._open(path, mode, **options)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove; counts as a change."""
        self._change()
        super().rm(path, recursive, maxdepth)

    @classmethod
    def empty(cls) -> None:
        """Forget all files: what lies there makes every look into it slower."""
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]

    @classmethod
    def mend(cls, dies_in: int | None = None, dies_with: type[BaseException] = PowerLossError) -> None:
        """Work again, for ``dies_in`` changes."""
        cls.dies_in, cls.dies_with = dies_in, dies_with

    @classmethod
    @contextmanager
    def by_workers(cls) -> Iterator[None]:
        """Changes that do not count: only the coordinator's process is to die."""
        left, cls.dies_in = cls.dies_in, None
        try:
            yield
        finally:
            cls.dies_in = left

    def _change(self) -> None:
        if self.dies_in is not None:
            type(self).dies_in = self.dies_in - 1
            if self.dies_in < 0:
                raise self.dies_with("the store is dead")


fsspec.register_implementation("fragile", FragileFileSystem, clobber=True)

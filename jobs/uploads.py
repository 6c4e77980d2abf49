"""Files of this machine, copied beside OUT under names that are made of their content.

OUT/inputs/<SHA-256>.wav      a sound or an image that rows name, once, however many name it
OUT/inputs/<SHA-256>.jsonl    a manifest that names them so (``jobs.upload_manifest``)
OUT/inputs/<SHA-256>.toml     the configuration of a submitted job

A file appears there whole, so that what is there need not be copied again: an upload that was interrupted
goes on with the next file.
"""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

from ltx_ray.errors import StorageError
from ltx_ray.media.probe import sha256_file
from ltx_ray.storage import Store

INPUTS = "inputs"
_COPIES = 8  # at a time
_LARGE = 64 * 2**20  # bytes; such files go one after the other
_WAITING = 64  # copies that may wait for their turn
_TELL_SECONDS = 10.0
_ABANDONED_SECONDS = 3600.0  # a half-written file that nobody wrote to for so long is nobody's
_ENDING = re.compile(r"\.[a-z0-9]{1,8}")


class Uploads:
    """The files of OUT/inputs, for the length of a context: it ends when all that was added is there."""

    def __init__(self, store: Store, tell: Callable[[str], None] = lambda text: None) -> None:
        self.files = self.bytes = 0  # that were added, each content once
        self.new_files = self.new_bytes = 0  # of these, that had to be copied
        self._store, self._tell = store, tell
        self._there = store.sizes(INPUTS)
        self._names: dict[Path, str] = {}
        self._added: set[str] = set()
        self._large = threading.Lock()
        self._pool = ThreadPoolExecutor(_COPIES)
        self._copies: set[Future[None]] = set()
        self._told_at = time.monotonic()
        self._sweep()

    def __enter__(self) -> "Uploads":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while error is None and self._copies:
                self._settle()
        finally:
            # Who interrupts does not want to wait for the rest of a large file.
            self._pool.shutdown(wait=error is None, cancel_futures=True)

    def add(self, path: Path) -> str:
        """The name within OUT/inputs of what is in ``path``, which is copied there soon.

        Raises StorageError where an earlier copy failed, OSError where the file cannot be read.
        """
        if path in self._names:
            return self._names[path]
        before = _state(path)
        name = sha256_file(path) + _ending(path)
        self._names[path] = name
        if name not in self._added:
            self._added.add(name)
            self._add(path, f"{INPUTS}/{name}", before)
        self._tell_at_times()
        return name

    def _add(self, path: Path, name: str, before: tuple[int, int]) -> None:
        size, _ = before
        self.files += 1
        self.bytes += size
        if self._there.get(name) == size:
            return
        self.new_files += 1
        self.new_bytes += size
        self._copies.add(self._pool.submit(self._copy, path, name, before))
        while len(self._copies) > _WAITING:
            self._settle()

    def _copy(self, path: Path, name: str, before: tuple[int, int]) -> None:
        # Object stores are sent many parts of a large file at a time: one such file fills memory enough.
        with self._large if before[0] > _LARGE else nullcontext():
            self._store.copy(path, name)
        if _state(path) != before:
            self._store.delete(name)  # which belongs to another content
            raise StorageError(
                f"{path} changed while it was uploaded: give the same command again when it is complete"
            )

    def _settle(self) -> None:
        """Wait for one copy at least. Raises what one of them raised."""
        done, self._copies = wait(self._copies, timeout=_TELL_SECONDS, return_when=FIRST_COMPLETED)
        for each in done:
            each.result()
        self._tell_at_times()

    def _tell_at_times(self) -> None:
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self._told_at = time.monotonic()
            copied = self.new_files - len(self._copies)
            self._tell(f"uploading: {self.files:,} files so far, {copied:,} of {self.new_files:,} new ones")

    def _sweep(self) -> None:
        """Delete what uploads that were killed left half-written."""
        for name in self._store.unfinished(INPUTS, silent=_ABANDONED_SECONDS):
            self._store.delete(name)


def _state(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    return ending if _ENDING.fullmatch(ending) else ""

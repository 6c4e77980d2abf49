"""Writes what is derived from the ledger: the output manifest's parts, at the end the videos' metadata."""

import asyncio
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ltx_ray.ledger.history import History, hash64
from ltx_ray.ledger.sweep import sweep_videos, sweep_work
from ltx_ray.manifest import output
from ltx_ray.shard import WHOLE
from ltx_ray.storage import Store
from ltx_ray.types import ShotResult, Status

_ROWS_PER_PART = 1000
_ROWS_PER_FILE = 10_000  # of the compacted output manifest: a file is in memory before it is written
_SECONDS_PER_PART = 30.0  # how long a finished shot may be missing from the output manifest
Results = Callable[[], Iterator[ShotResult]]


class Publisher:
    """Collects a shard's ended shots into parts of its own: other shards may be at it beside this one.

    ``inline`` writes in the caller's thread (for virtual time).
    """

    def __init__(self, out: str, shard: str = WHOLE.name, *, inline: bool = False) -> None:
        self._out, self._shard = out, shard
        self._store = Store(out)
        self._inline = inline
        self._fresh: list[ShotResult] = []
        self._number: int | None = None
        self._written_at: float | None = None

    async def add(self, result: ShotResult) -> None:
        """Take an ended shot that is in the ledger; writes a part when there is enough, or it is time."""
        now = asyncio.get_running_loop().time()
        self._written_at = now if self._written_at is None else self._written_at
        self._fresh.append(result)
        if len(self._fresh) >= _ROWS_PER_PART or now - self._written_at >= _SECONDS_PER_PART:
            await self._do(self._write_part)
            self._written_at = now

    async def sweep(self, history: History, *, keep_ended: bool) -> None:
        """Delete what an interrupted call left half-written among the work of shots."""
        await self._do(lambda: sweep_work(self._store, self._shard, history, keep_ended=keep_ended))

    async def finish(
        self,
        results: Results,
        *,
        complete: bool,
        kept: Collection[str] = (),
        may_delete: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the last part; where the run is ``complete``, compact all parts, describe the videos, and
        delete those that no shot has, but for ``kept``. ``may_delete`` raises where nothing may be.
        """
        if self._fresh:
            await self._do(self._write_part)
        if complete:
            await self._do(lambda: self._describe(results))
            await self._do(lambda: self._sweep_videos(results, kept, may_delete))

    async def write_log(self, name: str, text: str) -> None:
        """Write the log of a shot, relative to OUT."""
        await self._do(lambda: self._store.write(name, text.encode("utf-8", "replace")))

    async def remove(self, folder: str) -> None:
        """Delete a folder of OUT that nobody needs any more."""
        await self._do(lambda: self._store.delete(folder))

    async def _do(self, work: Callable[[], object]) -> None:
        if self._inline:
            work()
        else:
            await asyncio.to_thread(work)

    def _write_part(self) -> None:
        if self._number is None:
            self._number = output.next_part(self._out, self._shard)
        fresh, self._fresh = self._fresh, []
        output.write_part(self._out, self._number, fresh, self._shard)
        self._number += 1

    def _describe(self, results: Results) -> None:
        last = _last(results)
        output.compact(self._out, _chosen(results, last), _ROWS_PER_FILE, self._shard)
        output.write_dataset_card(self._out)
        for folder, found in _by_folder(lambda: _chosen(results, last)):
            output.write_video_folder(self._out, folder, found)

    def _sweep_videos(self, results: Results, kept: Collection[str], may_delete: Callable[[], None]) -> None:
        """Of each shot its last video stays, also where a later attempt failed or was called off."""

        def done() -> Iterator[ShotResult]:
            return (result for result in results() if result.status is Status.DONE)

        last = _last(done)
        for folder, found in _by_folder(lambda: _chosen(done, last)):
            may_delete()
            sweep_videos(self._store, folder, [*kept, *(result.file_name or "" for result in found)])


def current(results: Results) -> Iterator[ShotResult]:
    """Of each shot its last result. Reads ``results`` twice and keeps 9 bytes of each."""
    return _chosen(results, _last(results))


def _last(results: Results) -> NDArray[np.bool_]:
    """For each of ``results``, whether it is the last of its shot."""
    ids = np.frombuffer(array("Q", (hash64(result.id) for result in results())), dtype=np.uint64)
    order = np.argsort(ids, kind="stable")
    last = np.zeros(len(ids), bool)
    if len(ids):
        last[order] = np.append(np.diff(ids[order]) != 0, True)
    return last


def _chosen(results: Results, last: NDArray[np.bool_]) -> Iterator[ShotResult]:
    return (result for result, is_last in zip(results(), last, strict=True) if is_last)


def _by_folder(results: Results) -> Iterator[tuple[str, list[ShotResult]]]:
    """Finished shots by the folder of their video, each folder as soon as all of it was read.

    Shots of a folder end at about the same time, so that few folders are in memory together.
    """
    left = Counter(folder for folder, _ in _finished(results))
    found: dict[str, list[ShotResult]] = {}
    for folder, result in _finished(results):
        found.setdefault(folder, []).append(result)
        left[folder] -= 1
        if not left[folder]:
            yield folder, found.pop(folder)


def _finished(results: Results) -> Iterator[tuple[str, ShotResult]]:
    for result in results():
        if result.status is Status.DONE and result.file_name:
            yield PurePosixPath(result.file_name).parent.name, result

"""Writing and reading the ledger.

An epoch is one driver's turn. Its records go into numbered files, each created once and never changed; what
the coordinator has to say at one moment shares a file, so that a store with slow puts keeps up. A new epoch
begins with a record of how many files of each earlier epoch it has seen: what a driver that was
thought dead writes later is beyond that count, and does not exist.
"""

import asyncio
import os
import socket
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from ltx_ray.errors import RunBusyError, StorageError
from ltx_ray.ledger.history import History
from ltx_ray.ledger.records import EpochRecord, Record, decode, encode, is_result
from ltx_ray.shard import named
from ltx_ray.storage import Store
from ltx_ray.types import ShotResult


class Ledger:
    """One shard's ledger, open for writing in a new epoch. ``Ledger.open`` makes one."""

    def __init__(self, store: Store, shard: str, epoch: int, inline: bool) -> None:
        self._store = store
        self.shard = shard
        self._folder = f"ledger/{shard}"
        self.epoch = epoch
        self._inline = inline
        self._number = 1
        self._writing = asyncio.Lock()  # files are numbered without gaps

    @classmethod
    def open(cls, store: Store, shard: str = "0000", *, inline: bool = False) -> "tuple[Ledger, History]":
        """Begin the next epoch; returns the ledger and what the earlier epochs said.

        ``inline`` writes in the caller's thread (for loops whose time is virtual). Raises RunBusyError
        where another driver begins at the same moment.
        """
        folder = f"ledger/{shard}"
        counts = _file_counts(store, folder)
        epoch = max(_epochs(store, folder), default=0) + 1
        record = EpochRecord(
            epoch=epoch, after=counts, host=socket.gethostname(), pid=os.getpid(), time=time.time()
        )
        if not store.create(_file(folder, epoch, 0), (encode(record) + "\n").encode()):
            raise RunBusyError(
                f"another driver has just begun on {named(shard, store.url)}; only one can write to it"
            )
        ledger = cls(store, shard, epoch, inline)
        history = History()
        for entry in read_records(store, shard):
            history.add(entry)
        if history.revived:
            history.revive(read_records(store, shard))
        return ledger, history.settled()

    async def commit(self, records: Sequence[Record]) -> None:
        """Returns when ``records`` are durable, all in one file. Raises StorageError where they are not."""
        if not records:
            return
        data = "".join(encode(record) + "\n" for record in records).encode()
        async with self._writing:
            name = _file(self._folder, self.epoch, self._number)
            if self._inline:
                created = self._store.create(name, data)
            else:
                created = await asyncio.to_thread(self._store.create, name, data)
            if not created:
                raise StorageError(f"{name} is there already: another driver writes to this run")
            self._number += 1

    def results(self) -> Iterator[ShotResult]:
        """All results of all epochs, in the order in which they were written."""
        yield from read_results(self._store, self.shard)


def read_records(store: Store, shard: str = "0000") -> Iterator[Record]:
    """All records that count, epoch by epoch, in the order in which they were written."""
    return map(decode, _lines(store, f"ledger/{shard}"))


def read_results(store: Store, shard: str = "0000") -> Iterator[ShotResult]:
    """All results that count, in the order in which they were written."""
    for line in filter(is_result, _lines(store, f"ledger/{shard}")):
        result = decode(line)
        assert isinstance(result, ShotResult)
        yield result


def _lines(store: Store, folder: str) -> Iterator[str]:
    counts = _file_counts(store, folder)
    limits: dict[int, int] = {}
    for epoch in counts:
        first = decode(store.read(_file(folder, epoch, 0)).decode())
        assert isinstance(first, EpochRecord)
        for earlier, count in first.after.items():
            limits[earlier] = min(limits.get(earlier, count), count)
    for epoch in sorted(counts):
        for number in range(min(counts[epoch], limits.get(epoch, counts[epoch]))):
            try:
                data = store.read(_file(folder, epoch, number))
            except FileNotFoundError:  # somebody deleted it: what came after may rest on it
                break
            yield from data.decode().splitlines()


def _epochs(store: Store, folder: str) -> list[int]:
    return [int(name) for name in store.folders(folder) if name.isdecimal()]


def _file_counts(store: Store, folder: str) -> dict[int, int]:
    """How many files each epoch has that has begun. Looks at a few, so that a million cost no memory."""
    counts = {epoch: _count(store, folder, epoch) for epoch in _epochs(store, folder)}
    return {epoch: count for epoch, count in counts.items() if count}


def _count(store: Store, folder: str, epoch: int) -> int:
    """The first number that no file has, found by doubling and halving: files are numbered without gaps."""
    most = 1
    while store.size(_file(folder, epoch, most - 1)) is not None:
        most *= 2
    # File most - 1 is missing, file most // 2 - 1 is there.
    return bisect_left(
        range(most),
        True,
        lo=most // 2,
        hi=most - 1,
        key=lambda number: store.size(_file(folder, epoch, number)) is None,
    )


def _file(folder: str, epoch: int, number: int) -> str:
    return f"{folder}/{epoch:06d}/{number:08d}.jsonl"

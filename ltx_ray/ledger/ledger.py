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
from collections.abc import Iterator, Sequence

from ltx_ray.errors import StorageError
from ltx_ray.ledger.history import History
from ltx_ray.ledger.records import ArtefactRecord, EpochRecord, Record, decode, encode
from ltx_ray.storage import Store
from ltx_ray.types import ShotResult


class Ledger:
    """One shard's ledger, open for writing in a new epoch. ``Ledger.open`` makes one."""

    def __init__(self, store: Store, shard: str, epoch: int, inline: bool) -> None:
        self._store = store
        self._shard = shard
        self._folder = f"ledger/{shard}"
        self.epoch = epoch
        self._inline = inline
        self._number = 1

    @classmethod
    def open(cls, store: Store, shard: str = "0000", *, inline: bool = False) -> "tuple[Ledger, History]":
        """Begin the next epoch; returns the ledger and what the earlier epochs said.

        ``inline`` writes in the caller's thread (for loops whose time is virtual). Raises StorageError
        where another driver begins at the same moment.
        """
        counts = _file_counts(store, f"ledger/{shard}")
        epoch = max(counts, default=0) + 1
        record = EpochRecord(
            epoch=epoch, after=counts, host=socket.gethostname(), pid=os.getpid(), time=time.time()
        )
        name = f"ledger/{shard}/{epoch:06d}/{0:08d}.jsonl"
        if not store.create(name, (encode(record) + "\n").encode()):
            raise StorageError(f"another driver has just begun on {store.url}; only one can write to a run")
        ledger = cls(store, shard, epoch, inline)
        history = History()
        for entry in read_records(store, shard):
            history.add(entry)
        return ledger, history.settled()

    async def commit(self, records: Sequence[ArtefactRecord | ShotResult]) -> None:
        """Returns when ``records`` are durable, all in one file. Raises StorageError where they are not."""
        if not records:
            return
        name = f"{self._folder}/{self.epoch:06d}/{self._number:08d}.jsonl"
        data = "".join(encode(record) + "\n" for record in records).encode()
        if self._inline:
            created = self._store.create(name, data)
        else:
            created = await asyncio.to_thread(self._store.create, name, data)
        if not created:
            raise StorageError(f"{name} is there already: another driver writes to this run")
        self._number += 1

    def results(self) -> Iterator[ShotResult]:
        """All results of all epochs, in the order in which they were written."""
        for record in read_records(self._store, self._shard):
            if isinstance(record, ShotResult):
                yield record


def read_records(store: Store, shard: str = "0000") -> Iterator[Record]:
    """All records that count, epoch by epoch, in the order in which they were written."""
    folder = f"ledger/{shard}"
    counts = _file_counts(store, folder)
    limits: dict[int, int] = {}
    for epoch in sorted(counts, reverse=True):
        first = decode(store.read(f"{folder}/{epoch:06d}/{0:08d}.jsonl").decode())
        assert isinstance(first, EpochRecord)
        for earlier, count in first.after.items():
            limits[earlier] = min(limits.get(earlier, count), count)
    for epoch in sorted(counts):
        for number in range(min(counts[epoch], limits.get(epoch, counts[epoch]))):
            for line in store.read(f"{folder}/{epoch:06d}/{number:08d}.jsonl").decode().splitlines():
                yield decode(line)


def _file_counts(store: Store, folder: str) -> dict[int, int]:
    """How many files each epoch has: the length of its unbroken run of numbers."""
    numbers: dict[int, set[int]] = {}
    for name in store.list(folder):
        epoch, _, file = name.removeprefix(f"{folder}/").partition("/")
        if file.endswith(".jsonl"):
            numbers.setdefault(int(epoch), set()).add(int(file.removesuffix(".jsonl")))
    return {epoch: _run_length(found) for epoch, found in numbers.items() if 0 in found}


def _run_length(numbers: set[int]) -> int:
    length = 0
    while length in numbers:
        length += 1
    return length

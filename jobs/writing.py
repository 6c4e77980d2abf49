"""OUT, written to by a command that is no render: as the only driver, for as long as it takes."""

import asyncio
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from jobs.status import opened
from ltx_ray.errors import StorageError
from ltx_ray.ledger.history import History
from ltx_ray.ledger.lease import BEAT_S, Lease, wait_for_lease
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import Record
from ltx_ray.shard import Shard
from ltx_ray.storage import Store


@dataclass(frozen=True, slots=True)
class Writing:
    """What the holder of the lease can do."""

    store: Store
    shard: Shard
    history: History
    _ledger: Ledger
    _lease: Lease

    def commit(self, records: Sequence[Record]) -> None:
        """Make ``records`` durable."""
        asyncio.run(self._ledger.commit(records))

    def delete(self, name: str) -> None:
        """Delete a file. Raises LeaseLostError where another driver has taken over."""
        self._lease.check()
        self.store.delete(name)


@contextmanager
def sole_writers(out: str, shards: Iterable[Shard]) -> Iterator[list[Writing]]:
    """Be the only driver of each of ``shards`` of the run in ``out``.

    Raises RunBusyError where another one lives, before anything is written; ConfigError where there is no
    run.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_sole_writer(out, shard)) for shard in shards]


@contextmanager
def _sole_writer(out: str, shard: Shard) -> Iterator[Writing]:
    store, owner = opened(out), uuid.uuid4().hex
    wait_for_lease(store, owner, shard.name)
    ledger, history = Ledger.open(store, shard.name, inline=True)
    lease = Lease(store, owner, ledger.epoch, shard.name)
    lease.renew()
    done = threading.Event()

    def renew() -> None:
        while not done.wait(BEAT_S):
            try:
                lease.renew()
            except StorageError:  # the next commit or deletion tells
                continue

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield Writing(store, shard, history, ledger, lease)
    finally:
        done.set()
        renewing.join()
    lease.renew(ended=True)

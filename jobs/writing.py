"""OUT, written to by a command that is no render: as the only driver, for as long as it takes."""

import asyncio
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.status import opened
from ltx_ray.errors import StorageError
from ltx_ray.ledger.history import History
from ltx_ray.ledger.lease import BEAT_S, Lease, wait_for_lease
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import Record
from ltx_ray.storage import Store


@dataclass(frozen=True, slots=True)
class Writing:
    """What the holder of the lease can do."""

    store: Store
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
def sole_writer(out: str) -> Iterator[Writing]:
    """Be the only driver of the run in ``out``.

    Raises RunBusyError where another one lives, ConfigError where there is no run.
    """
    store, owner = opened(out), uuid.uuid4().hex
    wait_for_lease(store, owner)
    ledger, history = Ledger.open(store, inline=True)
    lease = Lease(store, owner, ledger.epoch)
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
        yield Writing(store, history, ledger, lease)
    finally:
        done.set()
        renewing.join()
    lease.renew(ended=True)

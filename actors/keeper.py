"""Keeps a coordinator's lease on OUT while it runs, and brings it what people ask of the run."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from actors.progress import Progress
from ltx_ray.errors import LeaseLostError, StorageError
from ltx_ray.ledger.control import Request, asked, forget, remember
from ltx_ray.ledger.lease import BEAT_S, DEAD_AFTER_S, Lease
from ltx_ray.storage import Store


class Keeper:
    """Renews the lease, with the run's progress, from a thread: a slow store stops nobody."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store, self._lease, self._shard = store, lease, lease.shard
        self.renewed = time.time()  # when the lease was, last

    async def keep(
        self, progress: Callable[[], Progress], obey: Callable[[Request], Awaitable[None]]
    ) -> None:
        """Renew, and ``obey`` what is asked, until cancelled; a request's file goes once it was obeyed.

        Raises LeaseLostError where another driver has taken over, StorageError where the lease could not be
        renewed for so long that one might.
        """
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while True:
            try:
                await asyncio.to_thread(self._lease.renew, asdict(progress()))
                renewed, self.renewed = clock(), time.time()
                for name, request in await asyncio.to_thread(asked, self._store, self._shard):
                    await obey(request)
                    await asyncio.to_thread(remember, self._store, request, self._shard)
                    await asyncio.to_thread(self._store.delete, name)
            except LeaseLostError:
                raise
            except StorageError:
                if clock() - renewed > DEAD_AFTER_S - 2 * BEAT_S:
                    raise
            await asyncio.sleep(BEAT_S)

    def check(self) -> None:
        """Raise LeaseLostError where another driver has taken over: nothing may be deleted any more."""
        self._lease.check()

    async def end(self, progress: Progress, *, complete: bool) -> None:
        """Let the next driver begin at once. What is still asked of a run that is not ``complete`` stays:
        whoever asked is not told that it was done."""
        if complete:
            await asyncio.to_thread(forget, self._store, self._shard)
        await asyncio.to_thread(lambda: self._lease.renew(asdict(progress), ended=True))

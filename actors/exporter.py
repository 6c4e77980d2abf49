"""Tells the world of a coordinator, from its host: looks at it each second, answers Prometheus, writes files.

What is told must never stop a run: a port that cannot be opened or a file that cannot be written is said, and
the run goes on.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

from actors.coordinator import Coordinator
from actors.keeper import Keeper
from actors.measuring import Measuring
from actors.node_care import Look
from actors.progress import Summary
from cluster.capacity import Seen
from cluster.exposition import Endpoint, TargetsFile, run_name
from cluster.metrics import Metrics
from ltx_ray.errors import LtxRayError
from ltx_ray.redact import redacted
from ltx_ray.run import RunSpec
from ltx_ray.storage import Store
from ltx_ray.types import Stage

_LOOK_SECONDS = 1.0
_LINGER_LOOK_SECONDS = 0.1
_WRITE_SECONDS = 60.0  # between two snapshots: what a coordinator that is killed leaves


class Exporter:
    """Of one coordinator."""

    def __init__(
        self,
        spec: RunSpec,
        store: Store,
        keeper: Keeper,
        gpu_shares: Mapping[Stage, float],
        *,
        epoch: int,
        shard: str = "0000",
    ) -> None:
        config = spec.config.metrics
        run = run_name(config, spec.out)
        facts = {
            "output": redacted(spec.out),
            "model": redacted(spec.model),
            "config_hash": spec.hash,
            "device": spec.device,
        }
        self._config, self._store, self._keeper = config, store, keeper
        self._metrics = Metrics(run, shard, facts)
        self._metrics.epoch.set(epoch)
        self.observer = Measuring(self._metrics, spec, gpu_shares)
        self._targets = TargetsFile(config.discovery, run, shard, spec.out) if config.discovery else None
        self._snapshot = f"metrics/{shard}.{epoch:06d}.prom"
        self._hurry = asyncio.Event()

    def seen_through(self, look: Look) -> Look:
        """``look``, and what it sees is measured."""

        async def measured() -> Seen:
            seen = await look()
            self.observer.saw(seen)
            return seen

        return measured

    def hurry(self) -> None:
        """Wait for nobody at the end."""
        self._hurry.set()

    async def run(self, coordinator: Coordinator) -> Summary:
        """``coordinator.run()``, measured. Where it ends well, Prometheus may fetch the last figures."""
        endpoint = await self._open(coordinator)
        looking = asyncio.create_task(self._keep_looking(coordinator))
        self._metrics.running.set(1)
        is_complete = False
        try:
            summary = await coordinator.run()
            is_complete = not summary.interrupted
            return summary
        finally:
            looking.cancel()
            await asyncio.wait({looking})
            self._look(coordinator)
            self._metrics.running.set(0)
            end = time.monotonic()
            await self._write(coordinator)
            if endpoint is not None:
                if is_complete:
                    await self._linger(end)
                await self._close(endpoint, coordinator)

    async def _keep_looking(self, coordinator: Coordinator) -> None:
        clock = asyncio.get_running_loop().time
        written = clock()
        try:
            while True:
                due = clock() + _LOOK_SECONDS
                await asyncio.sleep(_LOOK_SECONDS)
                self._look(coordinator, lag=clock() - due)
                if clock() - written >= _WRITE_SECONDS:
                    written = clock()
                    await self._write(coordinator)
        except Exception as error:  # a fault of ours: the videos are worth more than their figures
            coordinator.say(f"the metrics stand still: {error!r}")

    def _look(self, coordinator: Coordinator, lag: float = 0.0) -> None:
        self._metrics.lease.set(self._keeper.renewed)
        self.observer.look(coordinator.progress(), coordinator.oldest(), lag)

    async def _open(self, coordinator: Coordinator) -> Endpoint | None:
        port, bind = self._config.port, self._config.bind
        if port is None:
            return None
        try:
            endpoint = await asyncio.to_thread(Endpoint, self._metrics.registry, bind, port)
        except OSError as error:
            coordinator.say(f"nobody can ask for the metrics: metrics.bind {bind} cannot be opened: {error}")
            return None
        if endpoint.is_moved:
            coordinator.say(
                f"metrics.port {port} is taken: the metrics are at http://{endpoint.address}/metrics"
            )
        if self._targets is not None:
            await self._try(coordinator, partial(self._targets.write, endpoint.address))
        return endpoint

    async def _close(self, endpoint: Endpoint, coordinator: Coordinator) -> None:
        if self._targets is not None:
            await self._try(coordinator, self._targets.remove)
        await asyncio.to_thread(endpoint.close)

    async def _linger(self, end: float) -> None:
        """Wait for a scrape that began after ``end``, where there were any: what happened since the one
        before is seen nowhere else in Prometheus, the end of the run least of all."""
        while time.monotonic() - end < self._config.linger_seconds and not self._hurry.is_set():
            scraped = self._metrics.scraped_at
            if scraped is None or scraped > end:
                return
            await asyncio.sleep(_LINGER_LOOK_SECONDS)

    async def _write(self, coordinator: Coordinator) -> None:
        await self._try(coordinator, lambda: self._store.write(self._snapshot, self._metrics.text()))

    async def _try(self, coordinator: Coordinator, write: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(write)
        except LtxRayError as error:
            coordinator.say(f"the metrics are not written: {error}")

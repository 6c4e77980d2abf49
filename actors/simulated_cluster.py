"""A simulated cluster: so many GPUs, which simulated workers hold until they are let go or lost."""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

from actors.nodes import Nodes
from actors.pool import Pool
from actors.simulated_pool import FateOf, SimulatedWorker
from actors.work import Done
from cluster.capacity import Capacity, Seen
from cluster.placement import Placement
from ltx_ray.run import RunSpec
from ltx_ray.types import Job, Stage

_ROOM = 1e-9  # shares are sums of floats


class SimulatedSite:
    """A cluster that stays as it is. ``start_seconds``: until an actor that has a place is ready."""

    def __init__(self, capacity: Capacity, fate_of: FateOf, start_seconds: float) -> None:
        self._capacity, self._fate_of, self._start_seconds = capacity, fate_of, start_seconds
        self._free = capacity.gpus
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self.held = dict.fromkeys(Stage, 0.0)  # seconds for which workers were there, starts included
        self.gpu_seconds = 0.0  # for which GPUs were held

    def pools(self, run: RunSpec, placement: Placement, nodes: Nodes) -> dict[Stage, Pool]:
        """A pool of simulated workers for each stage."""
        return {
            stage: Pool(stage, _Launcher(self, stage, placement.gpus[stage]), placement.sizes[stage], nodes)
            for stage in Stage
        }

    async def look(self) -> Seen:
        """All is well."""
        return Seen(capacity=self._capacity)

    async def take(self, share: float) -> None:
        """Wait for so much of a GPU; who came first has it first."""
        if self._waiting or share > self._free + _ROOM:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((share, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give(share)
                raise
        else:
            self._free -= share

    def give(self, share: float) -> None:
        """Give it back."""
        self._free += share
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free + _ROOM):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= wanted
                turn.set_result(None)

    async def start(self) -> None:
        """What an actor needs until it is ready."""
        await asyncio.sleep(self._start_seconds)

    def fate_of(self, job: Job) -> Any:
        """What becomes of an attempt."""
        return self._fate_of(job)

    def count(self, stage: Stage, share: float, seconds: float) -> None:
        """A worker of ``stage`` was there for so long."""
        self.held[stage] += seconds
        self.gpu_seconds += share * seconds


class _Launcher:
    def __init__(self, site: SimulatedSite, stage: Stage, share: float) -> None:
        self._site, self._stage, self._share = site, stage, share

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> "_Holder":
        """When there is room for it."""
        if self._share:
            await self._site.take(self._share)
        holder = _Holder(self._site, self._stage, self._share)
        placed()
        try:
            await self._site.start()
        except asyncio.CancelledError:
            holder.close()
            raise
        return holder


class _Holder(SimulatedWorker):
    """A simulated worker that has its share until it is let go."""

    def __init__(self, site: SimulatedSite, stage: Stage, share: float) -> None:
        super().__init__(stage, site.fate_of)
        self._site, self._share, self._kind = site, share, stage
        self._since: float | None = asyncio.get_running_loop().time()

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """As SimulatedWorker.call; who is lost gives back what it had."""
        try:
            return await super().call(job, inputs)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Once."""
        if self._since is None:
            return
        self._site.count(self._kind, self._share, asyncio.get_running_loop().time() - self._since)
        self._since = None
        if self._share:
            self._site.give(self._share)

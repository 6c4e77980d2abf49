"""Ready tasks on their way to the pools: in which order they go, and which wait for room.

Invariant: a task is handed out once its needs are committed (durable results) or in memory (tiles).
"""

import asyncio
from collections.abc import Callable, Mapping
from operator import itemgetter

from actors.admission import DecodeQueue, Priority
from actors.deadline import Deadlines
from actors.line import Terms
from actors.node_care import NodeCare
from actors.pool import Pool
from actors.progress import Tally
from actors.shot_run import ShotRun
from actors.work import Done
from actors.worker import PoolBrokenError
from ltx_ray.manifest.index import LONG
from ltx_ray.types import Job, Stage, Task

_RANKED = 0.95  # of the work that was left when the chunks that wait were last ordered
Event = tuple[ShotRun, Task, Done]


class Dispatcher:
    """Of one run. ``answer`` is told how each task ended, ``broke`` that a stage can never be done."""

    def __init__(
        self,
        pools: Mapping[Stage, Pool],
        care: NodeCare,
        tally: Tally,
        deadlines: Deadlines,
        most_decoded_bytes: int,
        answer: Callable[[Event], None],
        broke: Callable[[PoolBrokenError], None],
    ) -> None:
        self.decodes = DecodeQueue(most_decoded_bytes)
        self._pools, self._care, self._tally, self._deadlines = pools, care, tally, deadlines
        self._answer, self._broke = answer, broke
        self._active: dict[str, ShotRun] = {}
        self._touched: dict[ShotRun, None] = {}  # in whose frontiers tasks may have become ready
        self._in_flight: set[asyncio.Task[None]] = set()
        self._ranked_at = tally.cost_left

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way, at work or waiting."""
        return not (self._in_flight or self._active or len(self.decodes) or self.decodes.in_flight)

    def touch(self, active: ShotRun) -> None:
        """Tasks of ``active`` may have become ready."""
        self._active[active.shot.id] = active
        self._touched[active] = None

    def retry(self, active: ShotRun, task: Task) -> None:
        """``task`` came to nothing, and is to be done again."""
        active.frontier.retry(task.key)
        self.touch(active)

    def encoded(self, active: ShotRun, slab: int) -> None:
        """The pixels of ``slab`` are in a segment: there is room for others."""
        self.decodes.release(active.shot.id, slab)

    def drop(self, active: ShotRun) -> None:
        """The shot is over."""
        self.decodes.drop(active)
        self._active.pop(active.shot.id, None)
        self._touched.pop(active, None)

    def dispatch(self) -> None:
        """Hand out what is ready. What it costs does not depend on how much is in work."""
        self._rank()
        touched, self._touched = self._touched, {}
        ready = [
            (self._priority(active, task), active, task)
            for active in touched
            for task in active.frontier.take_ready()
        ]
        now = asyncio.get_running_loop().time()
        for priority, active, task in sorted(ready, key=itemgetter(0)):
            if task.key.stage is Stage.DECODE:
                self.decodes.hold(priority, active, task, now)
            else:
                self._submit(priority, active, task)
        for priority, active, task in self.decodes.admit():
            if active.has_inputs(task):
                self._submit(priority, active, task)
            else:  # a chunk was lost while the task waited
                self.retry(active, task)

    def oldest(self) -> dict[Stage, float]:
        """Seconds for which the first task of each stage that could begin has waited."""
        since = {stage: pool.oldest() for stage, pool in self._pools.items()}
        both = (since[Stage.DECODE], self.decodes.oldest)
        since[Stage.DECODE] = min((moment for moment in both if moment is not None), default=None)
        now = asyncio.get_running_loop().time()
        return {stage: 0.0 if moment is None else now - moment for stage, moment in since.items()}

    async def close(self) -> None:
        """Wait for no answer any more."""
        for performing in self._in_flight:
            performing.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _priority(self, active: ShotRun, task: Task) -> Priority:
        """Lower goes first: the row's priority; chains that are longer than a fair share of what is left, for
        they would be the last to end, the longest of them first; the manifest's order."""
        share = self._tally.cost_left / max(self._pools[Stage.DENOISE].most, 1)
        left = active.remaining_cost
        length = -left if left > LONG * share else 0.0
        return (-active.shot.priority, length, active.sequence, task.key.index, task.key.tile)

    def _rank(self) -> None:
        """Order the chunks that wait anew, once so much work is done that others of them are long now."""
        if self._tally.cost_left < _RANKED * self._ranked_at:
            self._ranked_at = self._tally.cost_left
            self._pools[Stage.DENOISE].rank(self._priority_of)

    def _priority_of(self, job: Job) -> Priority:
        return self._priority(self._active[job.shot.id], job.task)

    def _submit(self, priority: Priority, active: ShotRun, task: Task) -> None:
        stage, job = task.key.stage, active.job(task)
        terms = Terms(
            seconds=self._deadlines.of(stage, task.cost),
            alone=active.tries[task.key].alone,
            shunned=self._care.shunned(active.place(task.key)),
            near=active.whereabouts.near(task),
        )
        future = self._pools[stage].submit(job, active.inputs(task), priority, terms)
        active.pending.add(future)
        future.add_done_callback(active.pending.discard)

        async def perform() -> None:
            try:
                done = await future
            except PoolBrokenError as error:
                self._broke(error)
                return
            self._answer((active, task, done))

        performing = asyncio.get_running_loop().create_task(perform())
        self._in_flight.add(performing)
        performing.add_done_callback(self._in_flight.discard)

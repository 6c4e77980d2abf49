"""Sizes the pools of a run while it goes on: by what the work has taken so far, and by what the cluster has.

On GPUs the stages are split so that all are equally fast; elsewhere each has what the machines carry. In both
cases a stage has no more actors than there is work left for, and grows by steps beyond what is there already.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from actors.pool import Pool
from cluster.capacity import Capacity
from cluster.placement import Placement, Sizing
from cluster.sizing import Demand, ramped, settled, split
from ltx_ray.types import Stage, Task

_ENOUGH = 5  # tasks of a stage from which its speed is known
_ONE_A_SHOT = (Stage.CONDITION, Stage.DENOISE)  # tasks that a shot can have at a time


@dataclass(frozen=True, slots=True)
class ShotsLeft:
    """Shots that need work yet."""

    waiting: int  # to be admitted
    active: int


class Sizer:
    """Of one run. ``shares`` are those of the actors that ``pools`` launch: they stay as they are."""

    def __init__(self, pools: Mapping[Stage, Pool], sizing: Sizing, shares: Placement) -> None:
        self._pools, self._sizing, self._shares = pools, sizing, shares
        self._sizes: dict[Stage, int] = {}  # of the stages that share the GPUs, as they were last split
        self._planned = dict.fromkeys(Stage, 0.0)  # cost of all tasks of the shots that were admitted
        self._cost = dict.fromkeys(Stage, 0.0)  # of the tasks that are done
        self._seconds = dict.fromkeys(Stage, 0.0)  # that they took
        self._done = dict.fromkeys(Stage, 0)

    def admit(self, tasks: Iterable[Task]) -> None:
        """A shot of these tasks has become active."""
        for task in tasks:
            self._planned[task.key.stage] += task.cost

    def learn(self, stage: Stage, cost: float, seconds: float) -> None:
        """A task is done."""
        self._cost[stage] += cost
        self._seconds[stage] += seconds
        self._done[stage] += 1

    def look(self, capacity: Capacity, left: ShotsLeft) -> None:
        """Resize the pools to what the cluster has, where that is known, and let go of what has nothing to
        do."""
        wanted = self._wanted(capacity) if capacity.nodes else {}
        patience = self._patience()
        for stage, pool in self._pools.items():
            state = pool.state()
            asked, most = self._sizing.bounds(stage), wanted.get(stage, state.most)
            # A conditioner has done its part of a shot before anything else begins.
            shots = left.waiting + (left.active if stage is not Stage.CONDITION else 0)
            useful = max(state.queued + state.running, shots)
            if wanted and stage in _ONE_A_SHOT:
                most = min(most, useful)
            pool.resize(min(asked.least if asked else 0, useful), most)
            pool.settle(patience if useful else 0.0, useful=useful > 0)

    def _patience(self) -> float:
        """Seconds that an actor may be idle. Actors that began together end together, so work comes in waves,
        as long as the longest tasks: who is idle between two of them is not let go."""
        longest = max(self._seconds[stage] / max(self._done[stage], 1) for stage in Stage)
        return max(self._sizing.config.idle_seconds, 2 * longest)

    def _wanted(self, capacity: Capacity) -> dict[Stage, int]:
        """Most actors of each stage now."""
        sizes = self._sizing.place(capacity).sizes
        if self._sizing.device == "cuda":
            sizes |= self._split(capacity, sizes)
        gpus = self._sizing.gpus(capacity)
        there = min(capacity.gpus / gpus, 1.0) if gpus else 1.0
        return {
            # What is there already need not be approached by steps.
            stage: ramped(size, max(self._pools[stage].state().workers, int(size * there)))
            for stage, size in sizes.items()
        }

    def _split(self, capacity: Capacity, placed: Mapping[Stage, int]) -> dict[Stage, int]:
        gpus = self._sizing.gpus(capacity)
        stages = [stage for stage in Stage if self._shares.gpus[stage] > 0]
        now = self._sizes or {stage: placed[stage] for stage in stages}
        if gpus < 2 or any(self._done[stage] < _ENOUGH for stage in stages):
            return {}
        found = split({stage: self._demand(stage) for stage in stages}, gpus)
        states = {stage: self._pools[stage].state() for stage in stages}
        starving = [s for s in stages if states[s].queued and states[s].running >= states[s].workers]
        taken = sum(now[stage] * self._shares.gpus[stage] for stage in stages)
        self._sizes = dict(found if taken > gpus else settled(now, found, starving))
        return self._sizes

    def _demand(self, stage: Stage) -> Demand:
        speed = self._seconds[stage] / max(self._cost[stage], 1e-9)
        asked = self._sizing.bounds(stage)
        return Demand(
            seconds=max(self._planned[stage] * speed, 1e-9),
            share=self._shares.gpus[stage],
            least=asked.least if asked else 0,
            most=asked.most if asked else 2**31,
        )

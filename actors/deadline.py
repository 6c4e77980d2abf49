"""How long a task may take before its actor counts as hung: learnt from the tasks before it.

Pure: told what tasks cost and took, it answers for the next one.
"""

from dataclasses import dataclass, field

from ltx_ray.config import RenderConfig
from ltx_ray.types import Stage

_ENOUGH = 5  # tasks of a stage from which something is learnt
_FACTOR = 10.0  # times the slowest one by its cost: other tasks of the node, other nodes, a store that waits

# These read files that rows name: their cost says nothing of how long a server may take for them.
_WITH_FILES, _FETCH_SECONDS = (Stage.CONDITION, Stage.FINISH), 600.0


@dataclass(slots=True)
class Deadlines:
    """For the stages of one run."""

    config: RenderConfig
    _count: dict[Stage, int] = field(default_factory=dict)
    _slowest: dict[Stage, float] = field(default_factory=dict)  # seconds for one unit of cost

    def learn(self, stage: Stage, cost: float, seconds: float) -> None:
        """A task of ``stage`` that cost so much took so long."""
        self._count[stage] = self._count.get(stage, 0) + 1
        self._slowest[stage] = max(self._slowest.get(stage, 0.0), seconds / max(cost, 1e-9))

    def of(self, stage: Stage, cost: float) -> float:
        """Seconds after which a task is given up: ``limits.task_seconds`` until enough is known of its stage,
        and never less than ``limits.least_task_seconds``, nor more than the former."""
        most, limits = self.config.limits.task_seconds, self.config.limits
        if self._count.get(stage, 0) < _ENOUGH:
            return most
        learnt = _FACTOR * self._slowest[stage] * max(cost, 1e-9)
        files = _FETCH_SECONDS + self.config.inputs.decode_seconds if stage in _WITH_FILES else 0.0
        return min(most, max(learnt, limits.least_task_seconds) + files)

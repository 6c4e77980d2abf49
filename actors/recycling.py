"""When an actor is let go because its memory has grown: pure decisions."""

from dataclasses import dataclass, field

from actors.work import Done
from actors.worker import Worker
from ltx_ray.types import Receipt

_WARM = 2  # jobs after which an actor has what it needs for good: kernels, buffers, modules


@dataclass(slots=True)
class Recycling:
    """Of the workers of one pool. ``most_growth``: bytes beyond what a worker held when it was warm that are
    a leak, or a heap in pieces; None: workers live as long as the run."""

    most_growth: int | None = None
    _jobs: dict[Worker, int] = field(default_factory=dict)
    _warm: dict[Worker, int] = field(default_factory=dict)  # bytes

    def is_due(self, worker: Worker, done: Done) -> bool:
        """Whether ``worker`` should be replaced after ``done``."""
        if self.most_growth is None or not isinstance(done.outcome, Receipt):
            return False
        self._jobs[worker] = self._jobs.get(worker, 0) + 1
        held = done.outcome.held_bytes
        if self._jobs[worker] <= _WARM:
            self._warm[worker] = held
        return held - self._warm[worker] > self.most_growth

    def forget(self, worker: Worker) -> None:
        """``worker`` is gone."""
        self._jobs.pop(worker, None)
        self._warm.pop(worker, None)

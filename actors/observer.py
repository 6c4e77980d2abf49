"""Who wants to know what happens in a run, and is told as it happens."""

from actors.retry import Verdict
from actors.shot_run import ShotRun
from actors.work import Done, Failure
from ltx_ray.types import Receipt, ShotResult, Task


class Observer:
    """Is told in the loop's thread, and must not wait. This one lets all pass by."""

    def begins(self, active: ShotRun) -> None:
        """A shot is in work now."""

    def done(self, active: ShotRun, receipt: Receipt, done: Done) -> None:
        """A task ended well, and the ledger says so; ``active`` knows it already."""

    def failed(self, active: ShotRun, task: Task, failure: Failure, node: str, verdict: Verdict) -> None:
        """A try of ``task`` failed on ``node`` (``Worker.node``), and what follows from it."""

    def leaves(self, active: ShotRun) -> None:
        """A shot is not in work any more."""

    def committed(self, seconds: float) -> None:
        """The ledger has taken something, which took so long."""

    def ended(self, result: ShotResult) -> None:
        """A row has its result, and the ledger says so."""

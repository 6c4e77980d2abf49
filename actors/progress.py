"""How far a run is, as plain numbers: for the terminal, for JSON, and for metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from actors.pool import PoolState
from ltx_ray.errors import BudgetSpentError
from ltx_ray.types import Receipt, ShotResult, Stage, Status

_FAILURES_TOLD = 20
# Of a ``Progress``: what is that of several shards when it is added up.
_ADDED = (
    *("total", "done", "failed", "rejected", "cancelled", "skipped", "running", "retries", "frames"),
    *("decoded_bytes", "gpu_hours"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """One stage at one moment."""

    queued: int
    running: int
    workers: int
    launching: int  # workers that load their part of the model, or wait for a place
    done: int  # tasks that ended well in this call of the command
    seconds: float  # that they took, wall time, added up
    unplaced: int = 0  # of those that are launching: such as wait for a place
    most: int = 0  # workers that there may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run at one moment."""

    total: int  # manifest rows
    done: int  # of them, in this and earlier calls
    failed: int
    rejected: int
    cancelled: int
    skipped: int  # that had ended before this call and are left alone
    running: int  # shots that are active now
    retries: int
    frames: int  # of videos that were finished in this call
    elapsed: float  # seconds since the coordinator began
    eta: float | None  # seconds that the rest will take at the present rate; None: not known yet
    decoded_bytes: int  # in flight
    gpu_hours: float = 0.0  # that the tasks of this call took, by the share of a GPU that each has
    paused: bool = False
    stages: dict[str, StageProgress] = field(default_factory=dict)
    message: str = ""  # the last thing that went wrong
    quarantined: tuple[str, ...] = ()  # nodes that get no more work

    @property
    def ended(self) -> int:
        """Rows that need no more work, however they ended."""
        return self.done + self.failed + self.rejected + self.cancelled

    @classmethod
    def of_shards(cls, parts: "Sequence[Progress]") -> "Progress":
        """Of several shards together, which go on at the same time or have ended. ETA: when the last is."""
        if len(parts) == 1:
            return parts[0]
        etas = [part.eta for part in parts if part.ended < part.total]
        names = dict.fromkeys(name for part in parts for name in part.stages)
        values = {name: sum(getattr(part, name) for part in parts) for name in _ADDED}
        return cls(
            **values,
            elapsed=max((part.elapsed for part in parts), default=0.0),
            eta=None if None in etas else max((eta for eta in etas if eta is not None), default=0.0),
            paused=bool(parts) and all(part.paused for part in parts),
            stages={
                name: StageProgress(
                    **{
                        each.name: sum(
                            getattr(part.stages[name], each.name) for part in parts if name in part.stages
                        )
                        for each in fields(StageProgress)
                    }
                )
                for name in names
            },
            message=next((part.message for part in parts if part.message), ""),
            quarantined=tuple(dict.fromkeys(node for part in parts for node in part.quarantined)),
        )

    @classmethod
    def none(cls) -> "Progress":
        """Of a run that has not begun."""
        return cls(
            total=0,
            done=0,
            failed=0,
            rejected=0,
            cancelled=0,
            skipped=0,
            running=0,
            retries=0,
            frames=0,
            elapsed=0.0,
            eta=None,
            decoded_bytes=0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a call of ``render`` ended."""

    progress: Progress
    interrupted: bool
    failures: tuple[tuple[str, str], ...]  # (id, error) of the first few
    cpu_seconds: dict[str, float]  # by stage, of this call
    by_ctrl_c: bool = False  # what interrupted it

    @classmethod
    def of_shards(cls, parts: "Sequence[Summary]") -> "Summary":
        """Of several shards that were rendered one after the other."""
        seconds: Counter[str] = Counter()
        for part in parts:
            seconds.update(part.cpu_seconds)
        progress = Progress.of_shards([part.progress for part in parts])
        return cls(
            progress=replace(progress, elapsed=sum(part.progress.elapsed for part in parts)),
            interrupted=any(part.interrupted for part in parts),
            failures=tuple(failure for part in parts for failure in part.failures)[:_FAILURES_TOLD],
            cpu_seconds=dict(seconds),
            by_ctrl_c=any(part.by_ctrl_c for part in parts),
        )


class Tally:
    """Counts what happens; the coordinator's only memory of finished shots."""

    def __init__(
        self, total: int, total_cost: float, gpu_shares: Mapping[Stage, float], gpu_hours: float
    ) -> None:
        self.retries = 0
        self.gpu_hours = gpu_hours
        self._gpu_shares = gpu_shares
        self._message = ""
        self.cost_left = total_cost
        self._total = total
        self._ended = dict.fromkeys(Status, 0)
        self._skipped = self._frames = 0
        self._cost_done = 0.0
        self._failures: list[tuple[str, str]] = []
        self._tasks = dict.fromkeys(Stage, 0)
        self._seconds = dict.fromkeys(Stage, 0.0)
        self._cpu_seconds = dict.fromkeys(Stage, 0.0)
        self._began: float | None = None

    @property
    def has_failures(self) -> bool:
        """Whether any shot has failed, now or before."""
        return self._ended[Status.FAILED] > 0

    @property
    def rows_left(self) -> int:
        """Rows that have not ended."""
        return self._total - sum(self._ended.values())

    def say(self, message: str) -> None:
        """Something went wrong; the last such thing is shown."""
        self._message = message

    def begin(self, now: float) -> None:
        """The run begins at ``now`` of the event loop's clock."""
        self._began = now

    def skip(self, status: Status, cost: float) -> None:
        """A row that had ended before."""
        self._skipped += 1
        self._ended[status] += 1
        self.cost_left -= cost

    def spend(self, cost: float) -> None:
        """So much work was done; below 0, where some of it was lost again."""
        self.cost_left -= cost
        self._cost_done += cost

    def drop(self, cost: float) -> None:
        """So much work need not be done after all."""
        self.cost_left -= cost

    def use(self, stage: Stage, seconds: float) -> None:
        """A task has had an actor for so long, however it ended."""
        self.gpu_hours += seconds * self._gpu_shares.get(stage, 0.0) / 3600

    def overspent(self, most: float | None) -> BudgetSpentError | None:
        """What to say where ``most`` GPU-hours are used up; None: they are not, or there is no such limit."""
        if most is None or self.gpu_hours < most:
            return None
        used = self.gpu_hours
        return BudgetSpentError(
            f"the run may take {most:g} GPU-hours (limits.max_gpu_hours), and has taken {used:.2f}: "
            "the same command goes on with what is left"
        )

    def count(self, receipt: Receipt) -> None:
        """A task ended well."""
        stage = receipt.key.stage
        self._tasks[stage] += 1
        self._seconds[stage] += receipt.seconds
        self._cpu_seconds[stage] += receipt.cpu_seconds

    def end(self, result: ShotResult) -> None:
        """A shot has ended, and the ledger says so."""
        self._ended[result.status] += 1
        if result.status is Status.DONE:
            self._frames += result.num_frames or 0
        elif len(self._failures) < _FAILURES_TOLD:
            self._failures.append((result.id, result.error or ""))

    def progress(
        self,
        *,
        now: float,
        pools: dict[Stage, PoolState],
        waiting: dict[Stage, int],
        running: int,
        decoded_bytes: int,
        paused: bool = False,
        quarantined: tuple[str, ...] = (),
    ) -> Progress:
        """All of it at ``now``."""
        elapsed = 0.0 if self._began is None else now - self._began
        return Progress(
            total=self._total,
            done=self._ended[Status.DONE],
            failed=self._ended[Status.FAILED],
            rejected=self._ended[Status.REJECTED],
            cancelled=self._ended[Status.CANCELLED],
            skipped=self._skipped,
            running=running,
            retries=self.retries,
            frames=self._frames,
            elapsed=elapsed,
            eta=self._eta(elapsed),
            decoded_bytes=decoded_bytes,
            gpu_hours=self.gpu_hours,
            paused=paused,
            stages={
                stage.value: StageProgress(
                    queued=state.queued + waiting.get(stage, 0),
                    running=state.running,
                    workers=state.workers,
                    launching=state.launching,
                    done=self._tasks[stage],
                    seconds=self._seconds[stage],
                    unplaced=state.unplaced,
                    most=state.most,
                )
                for stage, state in pools.items()
            },
            message=self._message,
            quarantined=quarantined,
        )

    def summary(self, progress: Progress, *, interrupted: bool) -> Summary:
        """The end."""
        return Summary(
            progress=progress,
            interrupted=interrupted,
            failures=tuple(self._failures),
            cpu_seconds={stage.value: seconds for stage, seconds in self._cpu_seconds.items()},
        )

    def _eta(self, elapsed: float) -> float | None:
        if self._cost_done <= 0 or elapsed <= 0:
            return None
        return max(self.cost_left, 0.0) * elapsed / self._cost_done

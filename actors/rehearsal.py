"""A run in virtual time: the real coordinator, pools and sizer over workers that sleep as long as a profile
says. Nothing is written, and nothing is read but the manifest.

Simplified: GPUs are one heap, not nodes of eight; CPUs are never short; a lost worker is one actor, not a
whole node; storage and network take no time beyond what the profile's seconds hold of them.
"""

import random
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from actors.coordinator import Coordinator
from actors.nodes import Nodes
from actors.observer import Observer
from actors.progress import Summary
from actors.publisher import Publisher
from actors.shot_run import ShotRun
from actors.simulated_cluster import SimulatedSite
from actors.simulated_pool import Fate, run_virtually
from actors.sizer import Sizer
from actors.work import Done
from cluster.capacity import Capacity
from cluster.placement import Sizing
from ltx_ray.ledger.history import History
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import Record
from ltx_ray.manifest.row import RowError
from ltx_ray.planning.timing import Profile
from ltx_ray.run import RunSpec
from ltx_ray.storage import Store
from ltx_ray.types import Job, Receipt, Shot, ShotResult, Stage

STAGES = tuple(Stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a rehearsal supposes of the cluster and its luck."""

    capacity: Capacity
    start_seconds: float  # until an actor that has a place is ready
    losses_per_hour: float = 0.0  # of workers at work: 0.05 is one in twenty an hour
    seed: int = 0


@dataclass(slots=True)
class Bars:
    """What ran when, in the order in which it ended; one entry each."""

    stages: "array[int]" = field(default_factory=lambda: array("b"))  # index into STAGES
    shots: "array[int]" = field(default_factory=lambda: array("I"))  # index into ids
    begins: "array[float]" = field(default_factory=lambda: array("d"))  # seconds
    ends: "array[float]" = field(default_factory=lambda: array("d"))
    ids: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """How a run would go. Times are seconds."""

    summary: Summary
    makespan: float
    work: dict[Stage, float]  # seconds of all tasks that were done well
    held: dict[Stage, float]  # seconds for which actors were there
    gpu_hours: float  # held
    longest: tuple[str, float]  # the shot of the longest chain, and its seconds
    peak_decoded_bytes: int
    tasks: int
    chunks: int
    bars: Bars


def rehearse(
    spec: RunSpec,
    rows: Iterator[Shot | RowError],
    profile: Profile,
    sizing: Sizing,
    terms: Terms,
    *,
    total: int,
    cost: Callable[[int], float],
    total_cost: float,
) -> Rehearsal:
    """Run all ``rows``; the last three are those of the manifest's index. Takes no real time but its own."""
    fates = _Fates(profile, terms)
    recorder = _Recorder(profile)
    found: list[int] = []

    async def run() -> tuple[Summary, SimulatedSite]:
        site = SimulatedSite(terms.capacity, fates.of, terms.start_seconds)
        placement, nodes = sizing.place(terms.capacity), Nodes()
        pools = site.pools(spec, placement, nodes)
        coordinator = Coordinator(
            spec,
            rows,
            pools,
            Unwritten(spec.out),
            History().settled(),
            Unpublished(spec.out),
            nodes=nodes,
            look=site.look,
            sizer=Sizer(pools, sizing, placement),
            shares=placement,
            observer=recorder,
            total=total,
            cost=cost,
            total_cost=total_cost,
            max_active=spec.config.pools.max_active_shots,
        )
        summary = await coordinator.run()
        found.append(coordinator.peak_decoded_bytes)
        return summary, site

    summary, site = run_virtually(run())
    return Rehearsal(
        summary=summary,
        makespan=max(recorder.bars.ends, default=0.0),
        work=recorder.work,
        held=site.held,
        gpu_hours=site.gpu_seconds / 3600,
        longest=recorder.longest,
        peak_decoded_bytes=found[0],
        tasks=len(recorder.bars.ends),
        chunks=recorder.chunks,
        bars=recorder.bars,
    )


class Unwritten(Ledger):
    """A ledger that keeps nothing."""

    def __init__(self, out: str) -> None:
        super().__init__(Store(out), "0000", 1, inline=True)

    async def commit(self, records: Sequence[Record]) -> None:
        """Everything is durable at once."""

    def results(self) -> Iterator[ShotResult]:
        """None."""
        return iter(())


class Unpublished(Publisher):
    """A publisher that writes and deletes nothing."""

    def __init__(self, out: str) -> None:
        super().__init__(out, inline=True)

    async def add(self, result: ShotResult) -> None:
        """Forget it."""

    async def _do(self, work: Callable[[], object]) -> None:
        """Not."""


class _Fates:
    """What becomes of attempts: the profile's seconds, and now and then a lost worker."""

    def __init__(self, profile: Profile, terms: Terms) -> None:
        self._profile, self._terms = profile, terms

    def of(self, job: Job) -> Fate:
        seconds = self._profile.seconds(job.task, job.frame)
        rate = self._terms.losses_per_hour / 3600
        if rate:
            luck = random.Random(f"{self._terms.seed}/{job.shot.id}/{job.task.key}/{job.attempt}")
            lives = luck.expovariate(rate)
            if lives < seconds:
                return Fate(seconds=lives, lost=True)
        return Fate(seconds=seconds)


class _Recorder(Observer):
    """Keeps what ran when: 21 bytes a task."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.bars = Bars()
        self.work = dict.fromkeys(Stage, 0.0)
        self.longest = ("", 0.0)
        self.chunks = 0
        self._numbers: dict[str, int] = {}  # of the shots in work

    def begins(self, active: ShotRun) -> None:
        """A shot is in work now."""
        self._numbers[active.shot.id] = len(self.bars.ids)
        self.bars.ids.append(active.shot.id)
        self.chunks += len(active.plan.chunks)
        chain = self._profile.chain(active.plan)
        if chain > self.longest[1]:
            self.longest = (active.shot.id, chain)

    def done(self, active: ShotRun, receipt: Receipt, done: Done) -> None:
        """A task ended well."""
        stage = receipt.key.stage
        self.work[stage] += done.seconds
        self.bars.stages.append(STAGES.index(stage))
        self.bars.shots.append(self._numbers[active.shot.id])
        self.bars.begins.append(done.ended - done.seconds)
        self.bars.ends.append(done.ended)

    def leaves(self, active: ShotRun) -> None:
        """A shot is not in work any more."""
        self._numbers.pop(active.shot.id, None)

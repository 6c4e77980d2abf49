"""What surrounds a farm in virtual time, and what watches it.

``World`` decides by a seeded generator what becomes of each attempt, keeps the workers' files in the store,
breaks the store when it is told to, and checks at every call of a worker what must hold at that moment. It
trusts neither the coordinator's nor the frontier's books: what is committed it reads from the ledger's files.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fragile_store import FragileFileSystem, PowerLossError

from actors.admission import decoded_bytes
from actors.coordinator import Coordinator
from actors.progress import Summary
from actors.simulated_pool import Fate
from actors.work import PARTS, Done, Failure
from ltx_ray.config import RenderConfig
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import ArtefactRecord, decode
from ltx_ray.run import RunSpec
from ltx_ray.storage import Store
from ltx_ray.types import Artefact, Job, ShotResult, Stage, Status, TaskKey

CONFIG = RenderConfig.model_validate(
    {
        # Chunks of 5 latents that share 2, slabs of 2 latents: long shots of few frames.
        "sampling": {"chunk_size": 33, "overlap_frames": 16},
        "decoding": {"slab_frames": 16, "tile_size": 128, "halo": 0, "temporal_halo": 1, "ramp": 32},
        "pools": {"max_decoded_bytes": 2**20},
    }
)
# Kinds of failure, where they are not called as the odds are.
_KINDS = {"failure": "bad_result", "memory": "out_of_memory", "fatal": "model", "rejected": "media"}


@dataclass(frozen=True, slots=True)
class Row:
    """One manifest row: enough frames for so many chunks; 0 makes a row that is rejected."""

    chunks: int
    size: int = 64  # pixels, both ways
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Odds:
    """Probabilities of what an attempt can meet."""

    loss: float = 0.0  # the worker goes away
    launch_loss: float = 0.0  # a worker goes away before it is ready
    failure: float = 0.0  # retryable, the task's own
    memory: float = 0.0  # retryable, once it has its node for itself
    storage: float = 0.0  # retryable, the store's
    fatal: float = 0.0  # not retryable
    rejected: float = 0.0  # the row's media is broken
    payload_loss: float = 0.0  # of each payload in memory
    file_loss: float = 0.0  # of each durable input's file
    slowest: float = 10.0  # seconds of a task, evenly spread from 0


@dataclass(frozen=True, slots=True)
class Handle:
    """A payload in memory, as a test sees it."""

    shot: str
    key: TaskKey
    part: int
    output: str


@dataclass(frozen=True, slots=True)
class Cut:
    """How a call of the command is cut off: after ``after`` calls of workers, or changes of the store."""

    kind: str  # "stop": Ctrl-C; "cancel"; "power": PowerLossError; "disk": OSError
    after: int


@dataclass
class World:
    """What surrounds the coordinator, over all calls of the command on one OUT."""

    spec: RunSpec
    odds: Odds
    seed: int
    start_seconds: float = 0.0
    places: tuple[str, ...] = ("",)  # nodes, on which workers are launched in turn
    bad: frozenset[str] = frozenset()  # of them: every task fails there
    coordinator: Coordinator | None = None
    driver: asyncio.Task[Summary] | None = None
    cut: Cut | None = None
    running: dict[tuple[str, TaskKey], Job] = field(default_factory=dict)
    outputs: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)  # by bad luck, not by the coordinator
    attempts: Counter[tuple[str, TaskKey]] = field(default_factory=Counter)
    committed: dict[tuple[str, TaskKey], ArtefactRecord] = field(default_factory=dict)
    names: dict[tuple[str, TaskKey], set[str]] = field(default_factory=dict)  # ever committed
    results: dict[str, list[ShotResult]] = field(default_factory=dict)
    ends: dict[str, set[str]] = field(default_factory=dict)  # of each shot: why it may have ended badly
    decoding: dict[tuple[str, int], int] = field(default_factory=dict)  # bytes of each slab in flight
    peak_decoded: int = 0
    peak_active: int = 0
    peak_running: Counter[Stage] = field(default_factory=Counter)
    log: list[tuple[float, str, TaskKey]] = field(default_factory=list)  # when which task began, this call
    calls: int = 0
    broken: list[str] = field(default_factory=list)  # checks that failed, told in a worker's task
    _read: dict[int, int] = field(default_factory=dict)  # of each epoch: ledger files that were read
    _ended_at: dict[str, float] = field(default_factory=dict)
    _epoch: int = 0

    def __post_init__(self) -> None:
        self.store = Store(self.spec.out)

    # -- one call of the command ---------------------------------------------------------------------

    def begin_call(self, ledger: Ledger, cut: Cut | None) -> None:
        """A new coordinator: the workers of the last one, and what they held, are gone."""
        self._epoch, self.cut, self.calls = ledger.epoch, cut, 0
        self.running.clear()
        self.log.clear()
        self.decoding.clear()
        # A shot that ended for good in an earlier call is left alone; a rejected one may be mended.
        self._ended_at = {
            shot: -1.0 for shot, results in self.results.items() if results[-1].status is not Status.REJECTED
        }
        if cut and cut.kind in ("power", "disk"):
            FragileFileSystem.mend(cut.after, PowerLossError if cut.kind == "power" else OSError)

    def read_ledger(self) -> None:
        """Take in what was committed since the last look."""
        while True:
            name = f"ledger/0000/{self._epoch:06d}/{self._read.get(self._epoch, 0):08d}.jsonl"
            if self.store.size(name) is None:
                return
            for line in self.store.read(name).decode().splitlines():
                match decode(line):
                    case ArtefactRecord() as record:
                        self.committed[record.shot_id, record.key] = record
                        self.names.setdefault((record.shot_id, record.key), set()).add(record.artefact.name)
                        self._let_go(record.shot_id, record.key)
                    case ShotResult() as result:
                        self.results.setdefault(result.id, []).append(result)
                        self._ended_at[result.id] = asyncio.get_running_loop().time()
                        if result.status is not Status.DONE:  # another generation begins from nothing
                            for place in [place for place in self.committed if place[0] == result.id]:
                                del self.committed[place]
            self._read[self._epoch] = self._read.get(self._epoch, 0) + 1

    # -- what every call of a worker is checked for --------------------------------------------------

    def check_call(self, job: Job, inputs: Sequence[Any]) -> None:
        """All that must hold when ``job`` reaches a worker."""
        self.read_ledger()
        place = job.shot.id, job.task.key
        assert place not in self.running, f"{place} runs twice at the same time"
        assert not self._has_ended(job), f"{place} is worked on though its shot has ended"
        assert not self._is_there(*place), f"{place} was committed, and is made again"
        if job.output:
            assert job.output not in self.outputs, f"{job.output} names two attempts"
            self.outputs.add(job.output)
        assert len(inputs) == len(job.task.needs)
        for need, given in zip(job.task.needs, inputs, strict=True):
            self._check_input(job, need.key, need.part, given)
        self._check_order(job)
        self._count_decoding(job)
        self.running[place] = job
        stage = job.task.key.stage
        running = sum(key.stage is stage for _, key in self.running)
        self.peak_running[stage] = max(self.peak_running[stage], running)
        self.log.append((asyncio.get_running_loop().time(), *place))
        assert self.coordinator is not None
        self.peak_active = max(self.peak_active, self.coordinator.progress().running)

    def _check_input(self, job: Job, key: TaskKey, part: int, given: Any) -> None:
        names = self.names.get((job.shot.id, key), set())
        if isinstance(given, Artefact):
            assert given.name in names, f"{job.task.key} got a file of {key} that is not committed"
            return
        assert (given.shot, given.key, given.part) == (job.shot.id, key, part)
        if given.output:
            assert given.output in names, f"{job.task.key} began before {key} was committed"

    def _check_order(self, job: Job) -> None:
        """Chunk by chunk, and a video only of all segments: said again without the plan's needs."""
        key = job.task.key
        if key.stage is Stage.DENOISE and key.index:
            assert (job.shot.id, TaskKey(Stage.DENOISE, key.index - 1)) in self.names
        if key.stage is Stage.FINISH:
            for index in range(len(job.segment_frames)):
                assert (job.shot.id, TaskKey(Stage.ASSEMBLE, index)) in self.names
            assert self.coordinator is not None
            left = self.coordinator._active[job.shot.id]._payloads
            assert not left, f"payloads that nobody needs are held: {left}"

    def _has_ended(self, job: Job) -> bool:
        # What was handed to a worker before the end may begin in the same moment.
        ended = self._ended_at.get(job.shot.id)
        return ended is not None and ended < asyncio.get_running_loop().time()

    def _is_there(self, shot: str, key: TaskKey) -> bool:
        record = self.committed.get((shot, key))
        return record is not None and record.artefact.name not in self.deleted

    def _count_decoding(self, job: Job) -> None:
        """Slabs whose pixels are in memory; one whose segment is there only gives its tail once more."""
        if job.task.key.stage is not Stage.DECODE:
            return
        assert isinstance(job.task.work, tuple)
        assert self.coordinator is not None
        slab, active = job.task.work[0], self.coordinator._active
        for shot, index in [place for place in self.decoding if place[0] not in active]:
            del self.decoding[shot, index]
        if (job.shot.id, TaskKey(Stage.ASSEMBLE, slab.index)) in self.committed:
            return
        self.decoding[job.shot.id, slab.index] = decoded_bytes(slab)
        held = sum(self.decoding.values())
        self.peak_decoded = max(self.peak_decoded, held)
        assert held <= self.spec.config.pools.max_decoded_bytes or len(self.decoding) == 1, (
            f"{held} decoded bytes in flight: {self.decoding}"
        )

    def _let_go(self, shot: str, key: TaskKey) -> None:
        if key.stage is Stage.ASSEMBLE:
            self.decoding.pop((shot, key.index), None)

    # -- what becomes of an attempt ------------------------------------------------------------------

    def fate(self, job: Job, inputs: Sequence[Any], node: str) -> Fate:
        """What becomes of ``job``: drawn from the seed, the task, and how often it was tried."""
        place = job.shot.id, job.task.key
        self.attempts[place] += 1
        luck = random.Random(f"{self.seed}/{place[0]}/{place[1]}/{self.attempts[place]}")
        seconds = luck.choice((0.0, luck.uniform(0, self.odds.slowest)))
        for given in inputs:
            if isinstance(given, Artefact) and luck.random() < self.odds.file_loss:
                self.deleted.add(given.name)
                with FragileFileSystem.by_workers():
                    self.store.delete(given.name)
        gone = [i.name for i in inputs if isinstance(i, Artefact) and self.store.size(i.name) is None]
        if gone:
            return self._failed(job, seconds, "input_lost", lost=tuple(gone))
        if any(isinstance(i, Handle) and luck.random() < self.odds.payload_loss for i in inputs):
            return self._failed(job, seconds, "input_lost")
        if node in self.bad:
            return self._failed(job, seconds, "failure")
        if luck.random() < self.odds.loss:
            self._remember(job, "lost")
            return Fate(seconds=seconds, lost=True)
        for kind in ("failure", "memory", "storage", "fatal", "rejected"):
            if luck.random() < getattr(self.odds, kind):
                return self._failed(job, seconds, kind)
        return Fate(seconds=seconds)

    def _failed(self, job: Job, seconds: float, what: str, lost: tuple[str, ...] = ()) -> Fate:
        retryable = what in ("failure", "memory", "storage", "input_lost")
        self._remember(job, what)
        return Fate(
            seconds=seconds,
            failure=Failure(
                kind=_KINDS.get(what, what), message=what, traceback=what, retryable=retryable, lost=lost
            ),
        )

    def _remember(self, job: Job, what: str) -> None:
        self.ends.setdefault(job.shot.id, set()).add(what)

    def end_call(self, job: Job, done: Done | None) -> Done | None:
        """The attempt is over: its file is there, its payloads are handles that name where they are from."""
        self.running.pop((job.shot.id, job.task.key))
        if done is None or isinstance(done.outcome, Failure):
            return done
        if job.output:
            with FragileFileSystem.by_workers():
                self.store.write(job.output, b"made")
        parts = range(PARTS[job.task.key.stage])
        return replace(
            done, parts=tuple(Handle(job.shot.id, job.task.key, part, job.output) for part in parts)
        )

    def count_call(self) -> None:
        """Cut the coordinator off where its time has come."""
        self.calls += 1
        if not self.cut or self.calls != self.cut.after:
            return
        assert self.coordinator is not None
        assert self.driver is not None
        if self.cut.kind == "stop":
            self.coordinator.stop()
        elif self.cut.kind == "cancel":
            self.driver.cancel()

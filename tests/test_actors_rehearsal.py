"""A rehearsal tells what a run will take: held against a real one whose stages sleep."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import write_manifest

from actors.coordinator import Coordinator
from actors.local_pool import LocalWorker
from actors.nodes import Nodes
from actors.pool import Pool
from actors.publisher import Publisher
from actors.rehearsal import Rehearsal, Terms, rehearse
from actors.sizer import Sizer
from actors.work import PARTS, Made, StageActor
from cluster.capacity import Capacity, Seen, Space
from cluster.placement import Sizing
from jobs.plan_page import busy_curves, lanes_of
from jobs.profile import profile
from ltx_ray.config import PoolsConfig, RenderConfig
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.manifest.index import ManifestIndex, index_manifest, long_rows, shots
from ltx_ray.planning.timing import Profile, StageTime
from ltx_ray.run import RunSpec, claim
from ltx_ray.storage import Store
from ltx_ray.types import Artefact, Job, Stage

CONFIG = RenderConfig.model_validate(
    {"sampling": {"chunk_size": 33, "overlap_frames": 16}, "decoding": {"slab_frames": 32}}
)
TRUE = Profile(
    device="cpu",
    model="tiny",
    stages={
        Stage.CONDITION: StageTime(base=0.1),
        Stage.DENOISE: StageTime(base=0.2, rate=6e-4),
        Stage.DECODE: StageTime(base=0.1, rate=3e-3),
        Stage.ASSEMBLE: StageTime(base=0.1),
        Stage.FINISH: StageTime(base=0.1),
    },
)
HERE = Capacity((Space(8.0, 4.0),), (Space(8.0, 4.0),))
START = 1.0
SIZING = Sizing(device="cuda", threads=1, config=PoolsConfig())
ROWS = [
    {"id": f"s{n}", "prompt": "a tide", "num_frames": frames, "width": side, "height": 64}
    for n, (frames, side) in enumerate([(33, 64), (97, 96), (65, 64), (193, 64), (49, 128), (33, 96)] * 3)
]


class Sleeper(StageActor):
    """Takes as long as TRUE says, and makes a small file where its stage does."""

    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Sleep."""
        time.sleep(TRUE.seconds(job.task, job.frame))
        parts = (b"x",) * PARTS[job.task.key.stage]
        if not job.output:
            return Made(parts=parts)
        artefact: Artefact = self.save(job, hashlib.sha256(job.output.encode()).digest())
        return Made(artefact=artefact, parts=parts)


class SleepingLauncher:
    """Threads that sleep, ready after ``START`` seconds."""

    def __init__(self, run: RunSpec) -> None:
        self._run = run

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> LocalWorker:
        """A thread."""
        placed()
        await asyncio.sleep(START)
        return LocalWorker(ThreadPoolExecutor(1), Sleeper(self._run))


def slept(manifest: Path, spec: RunSpec, index: ManifestIndex) -> float:
    """Seconds of a real run: real ledger, real time."""
    claim(Store(spec.out), spec)
    ledger, history = Ledger.open(Store(spec.out))
    nodes, placement = Nodes(), SIZING.place(HERE)
    pools = {stage: Pool(stage, SleepingLauncher(spec), placement.sizes[stage], nodes) for stage in Stage}

    async def look() -> Seen:
        return Seen(capacity=HERE)

    async def run() -> float:
        coordinator = Coordinator(
            spec,
            shots(str(manifest), CONFIG, index, long_rows(index, placement.sizes[Stage.DENOISE])),
            pools,
            ledger,
            history,
            Publisher(spec.out),
            nodes=nodes,
            look=look,
            sizer=Sizer(pools, SIZING, placement),
            shares=placement,
            total=index.num_rows,
            cost=index.cost,
            total_cost=index.total_cost,
        )
        began = time.perf_counter()
        summary = await coordinator.run()
        assert summary.progress.done == index.num_rows
        return time.perf_counter() - began

    return asyncio.run(run())


def rehearsed(
    manifest: Path, spec: RunSpec, index: ManifestIndex, found: Profile, losses: float = 0.0
) -> Rehearsal:
    """The same in virtual time."""
    return rehearse(
        spec,
        shots(str(manifest), CONFIG, index, long_rows(index, SIZING.place(HERE).sizes[Stage.DENOISE])),
        found,
        SIZING,
        Terms(capacity=HERE, start_seconds=START, losses_per_hour=losses),
        total=index.num_rows,
        cost=index.cost,
        total_cost=index.total_cost,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunSpec, ManifestIndex]:
    folder = tmp_path_factory.mktemp("rehearsal")
    manifest = write_manifest(folder / "m.jsonl", ROWS)
    spec = RunSpec.decide(CONFIG, str(folder / "out"), "cpu")
    return manifest, spec, index_manifest(str(manifest), CONFIG)


def test_a_run_takes_what_its_rehearsal_said_and_its_profile_says_it_again(
    prepared: tuple[Path, RunSpec, ManifestIndex],
) -> None:
    manifest, spec, index = prepared
    said = rehearsed(manifest, spec, index, TRUE)
    took = slept(manifest, spec, index)
    assert said.makespan == pytest.approx(took, rel=0.1)
    again = rehearsed(manifest, spec, index, profile(spec.out))
    assert again.makespan == pytest.approx(took, rel=0.1)


def test_a_rehearsal_is_the_same_each_time_and_adds_up(
    prepared: tuple[Path, RunSpec, ManifestIndex],
) -> None:
    one, other = rehearsed(*prepared, TRUE), rehearsed(*prepared, TRUE)
    assert (one.makespan, one.gpu_hours, one.held) == (other.makespan, other.gpu_hours, other.held)
    assert one.summary.progress.done == len(ROWS)
    assert sum(one.work.values()) == pytest.approx(
        sum(end - begin for begin, end in zip(one.bars.begins, one.bars.ends, strict=True))
    )
    assert all(one.work[stage] <= one.held[stage] + 1e-9 for stage in Stage)
    assert one.gpu_hours <= 4 * (one.makespan + START) / 3600 + 1e-9
    assert one.longest[0].startswith("s")
    assert one.longest[1] < one.makespan
    assert one.peak_decoded_bytes > 0


def test_lost_workers_cost_time_and_nothing_else(prepared: tuple[Path, RunSpec, ManifestIndex]) -> None:
    calm, rough = rehearsed(*prepared, TRUE), rehearsed(*prepared, TRUE, losses=600.0)
    assert rough.summary.progress.done == len(ROWS)
    assert rough.summary.progress.retries > 0
    assert rough.makespan > calm.makespan


def test_the_charts_hold_every_second_of_work_and_no_two_bars_overlap(
    prepared: tuple[Path, RunSpec, ManifestIndex],
) -> None:
    made = rehearsed(*prepared, TRUE)
    curves = busy_curves(made.bars, made.makespan)
    seconds = curves.sum(axis=1) * made.makespan / curves.shape[1]
    assert seconds == pytest.approx([made.work[stage] for stage in Stage])
    begins, ends = np.array(made.bars.begins), np.array(made.bars.ends)
    lanes = lanes_of(begins, ends)
    for lane in range(lanes.max() + 1):
        order = np.argsort(begins[lanes == lane])
        spans = list(zip(begins[lanes == lane][order], ends[lanes == lane][order], strict=True))
        assert all(end <= begin + 1e-6 for (_, end), (begin, _) in pairwise(spans))

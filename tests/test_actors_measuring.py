"""What the metrics of a run say is what happened in it: the real coordinator in virtual time."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from simulated_farm import fresh_url, render_once, write_manifest
from simulated_world import CONFIG, Odds, Row, World

from actors.measuring import Measuring
from actors.progress import Progress, StageProgress
from actors.simulated_pool import Fate, run_virtually
from cluster.capacity import Seen
from cluster.metrics import Metrics
from ltx_ray.run import RunSpec
from ltx_ray.types import Job, Stage

pytestmark = pytest.mark.usefixtures("_empty_store")
SHARES = dict.fromkeys((Stage.DENOISE, Stage.DECODE), 0.5)
PRICED = CONFIG.model_copy(update={"metrics": CONFIG.metrics.model_copy(update={"price_per_gpu_hour": 7.2})})
CHUNKS = [3, 1, 5, 2, 4, 2, 6, 1, 3, 2]


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return replace(RunSpec.decide(PRICED, fresh_url(), "cpu"), out=fresh_url())


class Measured:
    """Metrics, who feeds them, and what they say."""

    def __init__(self, spec: RunSpec) -> None:
        self.metrics = Metrics("farm", "0000", {"output": "somewhere"})
        self.measuring = Measuring(self.metrics, spec, SHARES)

    def samples(self) -> list[Sample]:
        families = text_string_to_metric_families(self.metrics.text().decode())
        return [sample for family in families for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series that have ``labels``."""
        name = f"ltx_ray_{name}"
        found = [s.value for s in self.samples() if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"no series {name} {labels}"
        return sum(found)


class Steady(World):
    """Every task takes ten seconds and goes well."""

    def fate(self, job: Job, inputs: Sequence[Any], node: str) -> Fate:
        return Fate(seconds=10.0)


def test_what_is_counted_is_what_the_run_says_of_itself(spec: RunSpec, tmp_path: Path) -> None:
    measured = Measured(spec)
    odds = Odds(loss=0.04, failure=0.04, memory=0.02, rejected=0.01, payload_loss=0.02)
    world = World(replace(spec, out=fresh_url()), odds, seed=11)
    write_manifest(tmp_path / "shots.jsonl", [*(Row(chunks=chunks) for chunks in CHUNKS), Row(chunks=0)])
    summary = render_once(
        world, str(tmp_path / "shots.jsonl"), dict.fromkeys(Stage, 2), 4, observer=measured.measuring
    )
    progress = summary.progress
    assert progress.retries > 5, "something goes wrong in this world"
    assert progress.done
    for outcome in ("done", "failed", "rejected", "cancelled"):
        assert measured.value("shots_total", outcome=outcome) == getattr(progress, outcome)
    assert measured.value("retries_total") == progress.retries
    assert measured.value("task_failures_total") >= progress.retries
    for name, stage in progress.stages.items():
        assert measured.value("stage_seconds_count", stage=name) == stage.done
        assert measured.value("stage_seconds_sum", stage=name) == pytest.approx(stage.seconds)
    chunks = progress.stages[Stage.DENOISE].done
    assert measured.value("chunks_total", outcome="done") == chunks
    assert measured.value("frames_total", stage="finish") == progress.frames
    assert measured.value("commit_seconds_count") > 0
    assert not measured.measuring._chains, "nothing is kept of shots that have ended"
    assert measured.measuring._chunks_left == 0


def test_frames_and_pixels_are_those_of_the_videos(spec: RunSpec, tmp_path: Path) -> None:
    measured = Measured(spec)
    world = World(replace(spec, out=fresh_url()), Odds(), seed=1)
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=3, size=96), Row(chunks=1, size=64)])
    render_once(world, str(tmp_path / "shots.jsonl"), dict.fromkeys(Stage, 1), 2, observer=measured.measuring)
    frames = {96: 8 * 10 + 1, 64: 8 * 4 + 1}
    for stage in ("denoise", "assemble", "finish"):
        assert measured.value("frames_total", stage=stage) == sum(frames.values())
        assert measured.value("pixels_total", stage=stage) == sum(n * s * s for s, n in frames.items())
    assert measured.value("pixels_total", stage="decode") > sum(n * s * s for s, n in frames.items())


@pytest.mark.parametrize(("denoisers", "waited"), [(2, 0.0), (1, 2 * 10.0)])
def test_between_two_chunks_is_the_time_from_end_to_beginning(
    spec: RunSpec, tmp_path: Path, denoisers: int, waited: float
) -> None:
    """With one denoiser the second shot's chunk is at work when the first shot's next one becomes ready, and
    the other way round."""
    measured = Measured(spec)
    world = Steady(replace(spec, out=fresh_url()), Odds(), seed=1)
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=2), Row(chunks=2)])
    sizes = {**dict.fromkeys(Stage, 2), Stage.DENOISE: denoisers}
    render_once(world, str(tmp_path / "shots.jsonl"), sizes, 2, observer=measured.measuring)
    assert measured.value("overlap_wait_seconds_count") == 2
    assert measured.value("overlap_wait_seconds_sum") == waited


def progress_of(**stages: StageProgress) -> Progress:
    return replace(Progress.none(), total=20, done=5, failed=1, running=4, eta=90.0, stages=stages)


def at_work(running: int, workers: int, **more: int) -> StageProgress:
    return StageProgress(
        **{"queued": 0, "launching": 0, "done": 0, "seconds": 0.0, **more}, running=running, workers=workers
    )


def test_looks_add_up_what_actors_do_and_what_they_cost(spec: RunSpec) -> None:
    measured = Measured(spec)
    look = measured.measuring.look

    async def looks() -> None:
        look(progress_of(), {})
        await asyncio.sleep(10)
        denoise = at_work(3, 4, launching=3, unplaced=1, most=8)
        look(progress_of(denoise=denoise, finish=at_work(1, 1)), {Stage.DENOISE: 2.5}, 0.25)
        await asyncio.sleep(5)
        look(progress_of(denoise=at_work(0, 4, queued=2)), {})

    run_virtually(looks())
    assert measured.value("busy_seconds_total", stage="denoise") == 30
    assert measured.value("actor_seconds_total", stage="denoise") == 40 + 20
    # A GPU is held from the moment at which its actor has a place; each takes half of one.
    assert measured.value("gpu_held_seconds_total") == (4 + 3 - 1) * 0.5 * 10 + 4 * 0.5 * 5
    assert measured.value("gpu_busy_seconds_total") == 3 * 0.5 * 10
    assert measured.value("cost_total") == pytest.approx(40 / 3600 * 7.2)
    assert measured.value("manifest_rows_waiting") == 20 - 6 - 4
    assert measured.value("estimated_seconds_left") == 90
    assert measured.value("queue_tasks", stage="denoise") == 2
    assert measured.value("queue_oldest_seconds", stage="denoise") == 0, "the last look counts"
    assert measured.value("pool_actors", stage="denoise", state="idle") == 4


def test_the_time_left_is_no_number_before_it_is_known(spec: RunSpec) -> None:
    assert math.isnan(Measured(spec).value("estimated_seconds_left"))


def test_denoisers_wait_for_chunks_only_where_chunks_wait_for_each_other(spec: RunSpec) -> None:
    measured = Measured(spec)
    measured.measuring._chunks_left = 3  # of which one is at work

    async def looks() -> None:
        measured.measuring.look(progress_of(), {})
        for workers, queued, paused in ((4, 0, False), (4, 1, False), (4, 0, True), (1, 0, False)):
            await asyncio.sleep(10)
            chunks = at_work(1, workers, queued=queued)
            measured.measuring.look(replace(progress_of(denoise=chunks), paused=paused), {})

    run_virtually(looks())
    assert measured.value("overlap_idle_seconds_total") == 2 * 10, "two chunks wait, and three denoisers"


def test_nodes_are_told_by_their_machines_and_forgotten_when_they_are_gone(spec: RunSpec) -> None:
    measured = Measured(spec)
    saw, look = measured.measuring.saw, measured.measuring.look
    hosts = {"1a": "ant", "2b": "bee", "3c": "cat"}

    async def life() -> None:
        saw(Seen(living=frozenset(hosts), draining=frozenset({"2b"}), hosts=hosts))
        look(replace(progress_of(), quarantined=("1a",)), {})
        assert measured.value("nodes", state="ready") == 1
        assert measured.value("nodes", state="draining") == 1
        assert measured.value("node_quarantined", node="ant") == 1
        assert measured.value("node_quarantined", node="cat") == 0
        saw(Seen(living=frozenset({"1a"}), hosts={"1a": "ant"}, gone={"2b": "preempted", "3c": "lost"}))
        look(progress_of(), {})
        assert measured.value("nodes_gone_total", reason="preempted") == 1
        assert measured.value("nodes_gone_total", reason="lost") == 1
        assert measured.value("node_quarantined", node="bee") == 0, "its last figures can still be fetched"
        await asyncio.sleep(3601)
        look(progress_of(), {})

    run_virtually(life())
    assert {s.labels["node"] for s in measured.samples() if "node" in s.labels} == {"ant"}


def test_no_series_names_a_shot_and_each_names_its_run(spec: RunSpec, tmp_path: Path) -> None:
    measured = Measured(spec)
    world = World(replace(spec, out=fresh_url()), Odds(failure=0.1), seed=3)
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=2) for _ in range(6)])
    render_once(world, str(tmp_path / "shots.jsonl"), dict.fromkeys(Stage, 1), 3, observer=measured.measuring)
    samples = measured.samples()
    assert {(s.labels["run"], s.labels["shard"]) for s in samples} == {("farm", "0000")}
    assert not {value for s in samples for value in s.labels.values()} & {f"s{number}" for number in range(6)}
    assert all(s.name.startswith("ltx_ray_") for s in samples)

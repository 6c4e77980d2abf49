"""One active shot: names of attempts, payloads, what is done about losses, and the row that it becomes."""

from dataclasses import replace
from typing import Any

import pytest
from planned import LTX, settings_of, shot_of

from actors.shot_run import ShotRun
from actors.work import PARTS, Done
from ltx_ray.config import RenderConfig
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.types import Artefact, Job, Receipt, ShotPlan, Stage, Status, Task, TaskKey

DURABLE = {Stage.CONDITION, Stage.DENOISE, Stage.ASSEMBLE, Stage.FINISH}


def plan_of(frames: int = 97) -> ShotPlan:
    """Four chunks, several slabs of two tiles."""
    options = {"slab_frames": 32, "tile_size": 96, "halo": 0, "temporal_halo": 1, "ramp": 32}
    return plan_shot(shot_of(frames, 128, 64, priority=3), settings_of(33, 16, **options))


def run_of(plan: ShotPlan, records: dict[TaskKey, ArtefactRecord] | None = None, epoch: int = 2) -> ShotRun:
    """The shot, admitted."""
    return ShotRun(
        plan,
        records or {},
        sequence=5,
        generation=1,
        epoch=epoch,
        folder="00007",
        work="work/0000/shot",
        cost=100.0,
    )


def receipt_of(job: Job, seconds: float = 1.0) -> Receipt:
    """``job`` ended well."""
    artefact = Artefact(name=job.output, sha256="ab", bytes=9) if job.output else None
    values: dict[str, Any] = {"cpu_seconds": seconds, "peak_bytes": 1, "held_bytes": 1, "pid": 1}
    return Receipt(
        shot_id=job.shot.id,
        key=job.task.key,
        attempt=job.attempt,
        seconds=seconds,
        node="node-1",
        device=f"device of {job.task.key.stage}",
        artefact=artefact,
        **values,
    )


def finish(active: ShotRun, task: Task) -> None:
    """Do ``task`` and take its result in."""
    receipt = receipt_of(active.job(task))
    parts = tuple(f"{task.key}/{part}" for part in range(PARTS[task.key.stage]))
    record = ArtefactRecord.of(receipt, "f", 1) if receipt.artefact else None
    active.complete(receipt, Done(outcome=receipt, parts=parts), record)


def advance(active: ShotRun, until: TaskKey | None = None) -> Task | None:
    """Do all that can be done without ``until``; returns it."""
    found = None
    while tasks := active.frontier.take_ready():
        for task in tasks:
            if task.key == until:
                found = task
            else:
                finish(active, task)
    return found


def test_no_two_attempts_write_to_the_same_name() -> None:
    plan = plan_of()
    names = []
    for epoch in (1, 2, 11):
        active = run_of(plan, epoch=epoch)
        for task in plan.tasks:
            active.inputs = lambda task: []  # type: ignore[method-assign]
            names += [active.job(task).output for _ in range(12) if task.key.stage in DURABLE]
    assert len(set(names)) == len(names)


def test_results_lie_where_their_stage_says() -> None:
    active = run_of(plan_of())
    outputs = {task.key.stage: active.job(task).output for task in reversed(active.plan.tasks)}
    assert outputs == {
        Stage.CONDITION: "work/0000/shot/conditioning-0000-2.1.safetensors",
        Stage.DENOISE: "work/0000/shot/chunk-0000-2.1.safetensors",
        Stage.DECODE: "",
        Stage.ASSEMBLE: "work/0000/shot/segment-0000-2.1.mp4",
        Stage.FINISH: "videos/00007/shot-2.1.mp4",
    }


def test_attempts_count_from_one_for_each_task() -> None:
    active = run_of(plan_of())
    first, second = active.plan.tasks[:2]
    assert [active.job(task).attempt for task in (first, first, second, first)] == [1, 2, 1, 3]


def test_a_decoder_is_told_where_its_chunks_begin_and_a_finisher_how_long_its_segments_are() -> None:
    active = run_of(plan_of())
    for task in active.plan.tasks:
        job = active.job(task)
        if task.key.stage is Stage.DECODE:
            assert job.first_latent == active.plan.chunks[task.needs[0].key.index].final_start
        if task.key.stage is Stage.FINISH:
            assert job.segment_frames == tuple(slab.num_frames for slab in active.plan.slabs)


def test_inputs_are_payloads_in_memory_and_otherwise_files() -> None:
    plan = plan_of()
    active = run_of(plan)
    task = advance(active, TaskKey(Stage.DENOISE, 2))
    assert task is not None
    assert active.inputs(task) == ["condition-0000/0", "denoise-0001/0"]
    resumed = run_of(plan, active.records, epoch=3)
    again = advance(resumed, TaskKey(Stage.DENOISE, 2))
    assert again is not None
    names = [given.name for given in resumed.inputs(again)]
    assert names == [
        "work/0000/shot/conditioning-0000-2.1.safetensors",
        "work/0000/shot/chunk-0001-2.1.safetensors",
    ]


def test_payloads_are_let_go_of_as_soon_as_nobody_needs_them() -> None:
    active = run_of(plan_of(400))
    most = 0
    while tasks := active.frontier.take_ready():
        for task in tasks:
            finish(active, task)
            most = max(most, len(active._payloads))
    assert active.frontier.finished
    assert active._payloads == {}
    assert most < len(active.plan.tasks) / 3


def test_a_lost_payload_of_a_durable_result_is_read_from_its_file() -> None:
    active = run_of(plan_of())
    task = advance(active, TaskKey(Stage.DENOISE, 2))
    assert task is not None
    active.lose(task, ())
    active.frontier.retry(task.key)
    assert [t.key for t in active.frontier.take_ready()] == [task.key], "nothing is made again"
    assert all(isinstance(given, Artefact) for given in active.inputs(task))


def test_a_lost_file_is_made_again_before_it_is_used() -> None:
    active = run_of(plan_of())
    task = advance(active, TaskKey(Stage.DENOISE, 2))
    assert task is not None
    gone = active.records[TaskKey(Stage.DENOISE, 1)].artefact.name
    active.lose(task, (gone,))
    active.frontier.retry(task.key)
    assert not active.has_inputs(task)
    assert [t.key for t in active.frontier.take_ready()] == [TaskKey(Stage.DENOISE, 1)]
    finish(active, active.plan.tasks[2])
    assert active.has_inputs(task)
    assert active.records[TaskKey(Stage.DENOISE, 1)].artefact.name != gone


def test_lost_tiles_are_decoded_again() -> None:
    active = run_of(plan_of())
    task = advance(active, TaskKey(Stage.ASSEMBLE, 1))
    assert task is not None
    active.lose(task, ())
    active.frontier.retry(task.key)
    again = {t.key for t in active.frontier.take_ready()}
    assert {key for key in again if key.stage is Stage.DECODE} == {need.key for need in task.needs}


def test_a_lost_segment_is_made_of_tiles_that_are_decoded_again() -> None:
    active = run_of(plan_of())
    task = advance(active, TaskKey(Stage.FINISH))
    assert task is not None
    assert active._payloads == {}
    active.lose(task, (active.records[TaskKey(Stage.ASSEMBLE, 1)].artefact.name,))
    active.frontier.retry(task.key)
    ready = active.frontier.take_ready()
    slabs = {(t.key.stage, t.key.index) for t in ready}
    assert slabs == {(Stage.DECODE, 0), (Stage.DECODE, 1)}, "its own, and the tails of the one before"
    for done in ready:
        finish(active, done)
    segment = active.frontier.take_ready()
    assert [t.key for t in segment] == [TaskKey(Stage.ASSEMBLE, 1)]
    assert len(active.inputs(segment[0])) == len(segment[0].needs)
    finish(active, segment[0])
    assert [t.key for t in active.frontier.take_ready()] == [task.key]


def test_a_file_that_was_made_again_meanwhile_is_not_lost_twice() -> None:
    active = run_of(plan_of())
    task = advance(active, TaskKey(Stage.DENOISE, 2))
    assert task is not None
    active.lose(task, ("work/0000/shot/chunk-0001-1.1.safetensors",))
    assert TaskKey(Stage.DENOISE, 1) in active.records


def test_remaining_cost_falls_with_every_chunk_and_rises_with_a_lost_one() -> None:
    active = run_of(plan_of())
    count = len(active.plan.chunks)
    assert active.remaining_cost == 100.0
    task = advance(active, TaskKey(Stage.DENOISE, 2))
    assert task is not None
    assert active.remaining_cost == pytest.approx(100.0 * (count - 2) / count)
    assert run_of(active.plan, active.records).remaining_cost == active.remaining_cost
    active.lose(task, (active.records[TaskKey(Stage.DENOISE, 1)].artefact.name,))
    assert active.remaining_cost == pytest.approx(100.0 * (count - 1) / count)


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    """A decided run with LTX's ratios."""
    return replace(RunSpec.decide(RenderConfig(), "memory://out", "cpu"), ratios=LTX)


def test_a_finished_shot_becomes_a_row_with_everything_in_it(spec: RunSpec) -> None:
    active = run_of(plan_of())
    advance(active)
    result = active.result(spec, Status.DONE)
    assert (result.id, result.status, result.generation) == ("shot", Status.DONE, 1)
    assert (result.file_name, result.sha256, result.bytes) == ("videos/00007/shot-2.1.mp4", "ab", 9)
    assert (result.num_frames, result.width, result.height, result.fps) == (97, 128, 64, 24.0)
    assert result.seconds == pytest.approx(97 / 24)
    assert (result.attempts, result.error, result.error_kind) == (1, None, None)
    assert (result.device, result.node) == ("device of denoise", "node-1")
    counts = {stage: sum(t.key.stage is stage for t in active.plan.tasks) for stage in Stage}
    assert result.stage_seconds == {stage.value: float(count) for stage, count in counts.items()}
    assert result.config_hash == spec.hash
    assert result.queued_at is not None
    assert result.started_at is not None
    assert result.finished_at is not None
    assert result.queued_at <= result.started_at <= result.finished_at


@pytest.mark.parametrize("frames", [1, 9, 90, 97, 98, 200])
def test_the_chunks_of_a_row_are_the_frames_that_are_written(spec: RunSpec, frames: int) -> None:
    active = run_of(plan_of(frames))
    advance(active)
    chunks = active.result(spec, Status.DONE).chunks
    assert [chunk.index for chunk in chunks] == list(range(len(active.plan.chunks)))
    first = 0
    for chunk in chunks:
        assert chunk.start_frame == first
        first += chunk.num_frames
    assert first == frames
    assert [chunk.seed for chunk in chunks] == [chunk.seed for chunk in active.plan.chunks]


def test_a_failed_shot_tells_what_it_had_done_and_has_no_file(spec: RunSpec) -> None:
    active = run_of(plan_of())
    task = advance(active, TaskKey(Stage.DENOISE, 2))
    assert task is not None
    active.job(task)
    active.tries[task.key].failures = 3
    active.tries[TaskKey(Stage.DENOISE, 0)].losses = 2
    result = active.result(spec, Status.FAILED, "bad_result", "NaN")
    assert (result.status, result.error_kind, result.error) == (Status.FAILED, "bad_result", "NaN")
    assert (result.file_name, result.sha256, result.bytes) == (None, None, None)
    assert [chunk.index for chunk in result.chunks] == [0, 1]
    assert result.attempts == 6


def test_a_closed_shot_holds_no_payloads() -> None:
    active = run_of(plan_of())
    advance(active, TaskKey(Stage.DENOISE, 1))
    assert active._payloads
    active.close()
    assert active.closed
    assert active._payloads == {}

"""What a run may cost, and what it tells of each shot."""

from dataclasses import replace
from pathlib import Path

import pytest
from simulated_farm import fresh_url, render_once, write_manifest
from simulated_world import CONFIG, Odds, Row, World

from actors.retry import Verdict
from actors.shot_log import ShotLog
from actors.work import Failure
from ltx_ray.config import RenderConfig
from ltx_ray.errors import BudgetSpentError
from ltx_ray.run import RunSpec
from ltx_ray.types import Stage, Status, TaskKey

pytestmark = pytest.mark.usefixtures("_empty_store")
SIZES = dict.fromkeys(Stage, 2)


def world_of(odds: Odds, config: RenderConfig = CONFIG, seed: int = 5) -> World:
    spec = RunSpec.decide(config, fresh_url(), "cpu")
    return World(replace(spec, out=fresh_url()), odds, seed)


def limited(hours: float | None) -> RenderConfig:
    return CONFIG.model_copy(
        update={"limits": CONFIG.limits.model_copy(update={"max_gpu_hours": hours, "max_failures": None})}
    )


def test_a_run_stops_at_its_gpu_hours_and_the_same_command_goes_on(tmp_path: Path) -> None:
    manifest = str(tmp_path / "shots.jsonl")
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=3) for _ in range(10)])
    world = world_of(Odds(slowest=100.0), limited(0.05))
    with pytest.raises(BudgetSpentError, match=r"may take 0.05 GPU-hours .*has taken 0\.0[5-9]"):
        render_once(world, manifest, SIZES, max_active=4)
    assert 0 < len(world.results) < 10
    world.spec = replace(world.spec, config=limited(None))
    summary = render_once(world, manifest, SIZES, max_active=4)
    assert summary.progress.done == 10
    assert summary.progress.gpu_hours > 0


def test_a_budget_that_is_enough_stops_nothing(tmp_path: Path) -> None:
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=1)])
    world = world_of(Odds(slowest=100.0), limited(1e-9))
    with pytest.raises(BudgetSpentError):
        render_once(world, str(tmp_path / "shots.jsonl"), SIZES, max_active=1)
    world.spec = replace(world.spec, config=limited(5.0))
    assert render_once(world, str(tmp_path / "shots.jsonl"), SIZES, max_active=1).progress.done == 1


def test_every_shot_has_a_log_of_what_happened_to_it(tmp_path: Path) -> None:
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=4) for _ in range(8)])
    world = world_of(Odds(failure=0.1, loss=0.1, fatal=0.02))
    summary = render_once(world, str(tmp_path / "shots.jsonl"), SIZES, max_active=4)
    assert summary.progress.retries > 0
    assert {name for name in world.store.list("logs")} == {f"logs/0000/s{n}.1.log" for n in range(8)}
    for number in range(8):
        text = world.store.read(f"logs/0000/s{number}.1.log").decode()
        result = world.results[f"s{number}"][-1]
        lines = text.splitlines()
        assert "begins, generation 1" in lines[0]
        assert f"ends: {result.status}" in lines[-1]
        if result.status is Status.DONE:
            assert sum("denoise-" in line and " s on simulated" in line for line in lines) == 4
        else:
            assert f"ends: failed, {result.error_kind}" in lines[-1]
    assert "bad_result, so it is tried again" in "".join(
        world.store.read(name).decode() for name in world.store.list("logs")
    )


def test_a_log_keeps_an_event_together() -> None:
    log = ShotLog()
    failure = Failure(kind="bad_result", message="no", traceback="first\nsecond\n", retryable=True)
    log.failed(TaskKey(Stage.DECODE, 2, 1), failure, "n7", Verdict.RETRY)
    event = log.text()
    head, *rest = event.splitlines()
    assert head.endswith("Z decode-0002-001: bad_result on node n7, so it is tried again")
    assert rest == ["    first", "    second"]
    log.failed(TaskKey(Stage.CONDITION), failure, "", Verdict.REJECT)
    assert log.text().startswith(event)
    assert log.text().endswith("condition-0000: bad_result, so the row is rejected\n    no\n")

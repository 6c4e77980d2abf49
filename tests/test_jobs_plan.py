"""``ltx-ray profile`` and ``ltx-ray plan``: from a real run to what the next one will take."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from runs import QUICK, render_here, write_manifest

from jobs.plan import PlanRequest, plan
from jobs.plan_words import hours
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, UserError
from ltx_ray.types import Stage

ROWS: list[dict[str, Any]] = [
    {"id": "<b>a", "prompt": "a red circle"},
    {"id": "a", "prompt": "a red circle", "num_frames": 65, "width": 64, "height": 64},
    {"id": "b", "prompt": "a blue square", "num_frames": 33, "width": 96, "height": 64},
    {"id": "c", "prompt": "a blue square", "num_frames": 97, "width": 64, "height": 96},
]


def command(*words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    """A command in a process of its own."""
    made = subprocess.run([sys.executable, "-m", "jobs.cli", *words], capture_output=True, text=True)
    assert made.returncode == code, made.stderr
    return made


def plan_of(manifest: Path, profile: Path, *words: str) -> list[dict[str, Any]]:
    """What ``plan --json`` prints."""
    sets = [word for setting in QUICK for word in ("--set", setting)]
    told = command("plan", str(manifest), "--profile", str(profile), "--json", *words, *sets)
    found: list[dict[str, Any]] = json.loads(told.stdout)
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A manifest, and the profile of a run of it."""
    folder = tmp_path_factory.mktemp("plan")
    manifest = write_manifest(folder / "m.jsonl", ROWS)
    render_here(manifest, folder / "out")
    told = command("profile", str(folder / "out"), "--write", str(folder / "p.json"))
    assert "denoise" in told.stderr
    assert json.loads(command("profile", str(folder / "out")).stdout) == json.loads(
        (folder / "p.json").read_text()
    )
    return manifest, folder / "p.json"


def test_a_profile_of_a_run_has_a_time_for_every_stage(measured: tuple[Path, Path]) -> None:
    found = json.loads(measured[1].read_text())
    assert (found["device"], found["model"]) == ("cpu", "tiny")
    assert set(found["stages"]) == {stage.value for stage in Stage}
    assert all(time["samples"] >= 3 for time in found["stages"].values())
    assert found["stages"]["denoise"]["samples"] > 3, "a sample for each chunk"


def test_a_plan_of_a_laptop_names_what_it_takes(measured: tuple[Path, Path]) -> None:
    (found,) = plan_of(*measured, "--cpus", "2", "--start-seconds", "1")
    assert (found["shots"], found["rejected"], found["gpus"]) == (3, 1, 0)
    assert 1 < found["makespan"] < 120
    assert found["least"] <= found["makespan"]
    assert found["longest_shot"] == "c"
    assert set(found["work"]) == {stage.value for stage in Stage}
    assert all(0 < busy <= 1 for busy in found["stage_busy"].values())


def test_more_gpus_are_faster_and_cost_is_price_times_hours(
    measured: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest = write_manifest(
        tmp_path / "many.jsonl",
        [
            {"id": f"s{n}", "prompt": "x", "num_frames": 33 + 32 * (n % 3), "width": 64, "height": 64}
            for n in range(60)
        ],
    )
    page = tmp_path / "plan.html"
    found = plan_of(
        manifest,
        measured[1],
        *("--sweep-gpus", "2,4,8", "--price", "3.5", "--start-seconds", "1", "--html", str(page)),
    )
    times = [each["makespan"] for each in found]
    assert times == sorted(times, reverse=True)
    assert times[0] > 1.5 * times[2]
    for each in found:
        assert each["cost"] == pytest.approx(3.5 * each["gpu_hours"])
        assert 0 < each["busy"] <= 1
        assert each["makespan"] >= each["least"]
        assert each["gpu_hours"] <= each["gpus"] * (each["makespan"] + 1) / 3600 + 1e-9
        taken = sum(
            size * share for size, share in zip(each["best_split"].values(), (0.2, 1.0, 0.4), strict=True)
        )
        assert taken <= each["gpus"] + 1e-9
    (lossy,) = plan_of(manifest, measured[1], "--gpus", "4", "--spot-loss", "0.99", "--start-seconds", "1")
    assert lossy["shots"] == 60
    text = page.read_text()
    HTMLParser().feed(text)
    assert text.count("<svg") == 3, "the sweep, who is at work, and who works when"
    assert text.count("<rect") > 60
    assert "GPU-hours" in text


def test_ids_are_text_on_the_page(measured: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "<i>.jsonl", ROWS[1:])
    page = tmp_path / "plan.html"
    plan_of(manifest, measured[1], "--cpus", "2", "--html", str(page))
    assert "<i>" not in page.read_text()
    assert "&lt;i&gt;" in page.read_text()


def test_what_a_plan_cannot_be_made_of_is_told(measured: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, profile = measured
    ours: dict[str, Any] = {"config": RenderConfig(), "manifest": str(manifest), "profile": str(profile)}
    with pytest.raises(ConfigError, match="wants --gpus"):
        plan(PlanRequest(**ours))
    with pytest.raises(ConfigError, match="one of them"):
        plan(PlanRequest(**ours, gpus=(2,), cpus=2))
    assert "render a few" in " ".join(command("plan", str(manifest), "--gpus", "2", code=2).stderr.split())
    with pytest.raises(ConfigError, match="must be a file"):
        plan(PlanRequest(**{**ours, "profile": str(tmp_path / "none.json")}, gpus=(2,)))
    empty = write_manifest(tmp_path / "bad.jsonl", ROWS[:1])
    with pytest.raises(UserError, match="no row that could be rendered"):
        plan(PlanRequest(**{**ours, "manifest": str(empty)}, gpus=(2,)))
    other = json.loads(profile.read_text()) | {"model": "other"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match="is of the model other"):
        plan(PlanRequest(**{**ours, "profile": str(tmp_path / "other.json")}, gpus=(2,)))
    told = command("plan", str(manifest), "--profile", str(profile), "--sweep-gpus", "2,x", code=2)
    assert "such as 8,16,32" in told.stderr
    assert "should be a run" in command("profile", str(tmp_path), code=2).stderr.replace("must", "should")


def test_times_are_said_as_people_say_them() -> None:
    said = {
        0.04: "0.0 s",
        59.94: "59.9 s",
        61: "1 min 1 s",
        3600: "1 h",
        3660: "1 h 1 min",
        300000: "3 d 11 h",
    }
    assert {seconds: hours(seconds) for seconds in said} == said
    assert hours(3599.9) == "1 h"

"""Promise: ``ltx-ray evaluate`` measures the videos of a run and loose files, and a run can do so itself."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from actors.finisher import Finisher
from jobs.evaluate import EvaluateRequest, Measured, document, evaluate, tables
from ltx_ray.config import EncodingConfig, RenderConfig
from ltx_ray.errors import ConfigError, UserError
from ltx_ray.evaluation.figures import NAMES
from ltx_ray.evaluation.statistics import estimate, summarise
from ltx_ray.media.segment import SegmentWriter
from ltx_ray.training.world import scene
from ltx_ray.training.world_picture import render
from tests.runs import QUICK, manifest_rows, render_here, video_hashes, write_beeps, write_manifest

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "a red circle moving left", "width": 96, "height": 64, "num_frames": 49, "seed": 1},
    {"id": "b", "prompt": "rain", "width": 64, "height": 64, "num_frames": 9, "seed": 2},
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that has measured its videos."""
    folder = tmp_path_factory.mktemp("run")
    write_beeps(folder / "beeps.wav", 3)
    manifest = write_manifest(folder / "shots.jsonl", [{**ROWS[0], "audio": "beeps.wav"}, ROWS[1]])
    summary = render_here(manifest, folder / "out", "evaluate=true")
    assert summary.progress.done == 2
    return folder / "out"


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", "evaluate", *words], capture_output=True, text=True, check=False
    )


def write_loose(path: Path, frames: int = 25) -> Path:
    made = render(scene(2, frames / 24, "held_out"), frames, 64, 96)
    with SegmentWriter(path, 96, 64, 24, 0, EncodingConfig()) as writer:
        for frame in (made * 255).round().astype(np.uint8):
            writer.write(frame)
    return path


def test_a_run_with_evaluate_has_the_figures_in_its_manifest(out: Path) -> None:
    rows = {row["id"]: row for row in manifest_rows(out)}
    assert all(row["evaluation_error"] is None for row in rows.values())
    assert rows["a"]["sync_matched"] + rows["a"]["sync_missed"] == 2, "clicks at 1 and 2 s"
    assert rows["a"]["world_colour_right"] in (True, False)
    assert rows["a"]["inside_step"] is not None, "its chunks are known; its seam may lie within a flash"
    assert rows["b"]["world_colour_right"] is None, "its prompt is not of the synthetic world"
    assert rows["b"]["sync_missed"] is None, "it has no sound"
    assert rows["b"]["frozen"] is not None


def test_evaluating_changes_no_byte_and_the_same_command_may_ask_for_it_or_not(
    out: Path, tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", ROWS[1:])
    assert render_here(manifest, tmp_path / "out").progress.done == 1
    assert video_hashes(tmp_path / "out")["b"] == video_hashes(out)["b"]
    rows = manifest_rows(tmp_path / "out")
    assert all(rows[0][name] is None for name in NAMES)
    write_manifest(manifest, [*ROWS[1:], {**ROWS[1], "id": "c"}])
    assert render_here(manifest, tmp_path / "out", "evaluate=true").progress.done == 2
    found = {row["id"]: row for row in manifest_rows(tmp_path / "out")}
    assert found["b"]["frozen"] is None
    assert found["c"]["frozen"] is not None
    assert found["b"]["config_hash"] == found["c"]["config_hash"]


def test_a_video_that_cannot_be_measured_counts_all_the_same(out: Path, tmp_path: Path) -> None:
    class Careless(Finisher):
        """Looks for the video where there is none."""

        def measured(self, path: Path) -> dict[str, Any]:
            return self._evaluated(SHOT, path)

    from ltx_ray.manifest.content import RawRow
    from ltx_ray.manifest.shot import parse_row
    from ltx_ray.run import RunSpec

    config = RenderConfig.load(None, QUICK)
    SHOT = parse_row(RawRow(1, ROWS[1]), config, "")
    told = Careless(RunSpec.decide(config, str(tmp_path), "cpu")).measured(tmp_path / "missing.mp4")
    assert set(told) == {"evaluation_error"}
    assert "missing.mp4" in told["evaluation_error"]


def test_the_command_measures_a_run_as_the_run_does_and_draws_it(out: Path) -> None:
    said: list[str] = []
    measured = evaluate(EvaluateRequest(sources=(str(out),)), said.append)
    assert [each.id for each in measured] == ["a", "b"]
    assert said == ["1/2 a", "2/2 b"]
    rows = {row["id"]: row for row in manifest_rows(out)}
    for each in measured:
        assert each.figures == {
            name: pytest.approx(rows[each.id][name]) for name in NAMES if rows[each.id][name] is not None
        }
        assert each.picture == f"{out}/evaluation/{each.id}.png"
        assert Image.open(each.picture).size[0] == 1200


def test_the_command_prints_one_json_document_of_runs_and_files(out: Path, tmp_path: Path) -> None:
    loose = write_loose(tmp_path / "loose.mp4")
    words = ("--json", "--pictures", str(tmp_path / "drawn"), "--chunk-size", "17", "--overlap-frames", "8")
    ended = command(str(out), str(loose), "--limit", "1", *words)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert [each["id"] for each in found["videos"]] == ["a", "loose"]
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {"a.png", "loose.png"}
    assert found["summary"]["frozen"]["videos"] == 2
    low, value, high = (found["summary"]["frozen"][name] for name in ("low", "value", "high"))
    assert low <= value <= high
    assert "2/2 loose" in ended.stderr


def test_the_table_has_a_row_for_each_video_and_each_figure() -> None:
    measured = [
        Measured(video=f"v{n}.mp4", id=f"v{n}", figures={"frozen": n / 4, "sync_missed": n}, picture=None)
        for n in range(4)
    ]
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(tables(measured))
    text = console.export_text()
    assert all(f"v{n}" in text for n in range(4))
    assert "part of the frames that are as the one before" in text
    assert set(document(measured)["summary"]) == {"frozen", "sync_missed"}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["nothing.mp4"], "nothing.mp4"),
        (["."], "must be a run's output folder"),
        (["loose.mp4", "--chunk-size", "3"], "chunk_size"),
    ],
)
def test_what_cannot_be_measured_is_told(tmp_path: Path, words: list[str], wanted: str) -> None:
    write_loose(tmp_path / "loose.mp4", 2)
    source = str(tmp_path / words[0])
    size = int(words[2]) if len(words) > 1 else None
    with pytest.raises((UserError, ConfigError), match=wanted):
        evaluate(EvaluateRequest(sources=(source,), chunk_size=size), lambda text: None)


def test_an_estimate_is_the_median_with_an_interval_that_narrows_with_more_videos() -> None:
    rng = np.random.default_rng(1)
    few, many = (estimate([float(each) for each in rng.normal(5, 1, n)]) for n in (20, 500))
    assert few.low <= few.value <= few.high
    assert many.high - many.low < few.high - few.low
    assert many.low < 5 < many.high
    truths = estimate([1.0] * 90 + [0.0] * 10, is_truth=True)
    assert truths.value == pytest.approx(0.9)
    assert 0.8 < truths.low < 0.9 < truths.high < 0.97
    assert estimate([3.0]).low == estimate([3.0]).high == 3.0
    rows = [{"world_colour_right": True, "frozen": 0.5}, {"world_colour_right": False}]
    assert summarise(rows)["world_colour_right"].value == 0.5
    assert summarise(rows)["frozen"].videos == 1


def test_the_evaluation_page_has_every_figure() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs/evaluation.md").read_text(encoding="utf-8")
    manifest = (Path(__file__).resolve().parent.parent / "docs/manifest.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"| `{name}` |" in page
        assert f"`{name}`" in manifest

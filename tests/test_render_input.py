"""Bad input gets a clear error and costs itself only; what was asked is exactly what is written."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from runs import PATIENCE, command, finish, manifest_rows, render_here, start, write_beeps, write_manifest

from jobs.validate import validate
from ltx_ray.checkpoints import tiny_path
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, LtxRayError, ManifestError, ModelError
from ltx_ray.media.probe import probe_video

SMALL = {"prompt": "a red circle", "width": 64, "height": 64, "num_frames": 9}


def pixels_of(video: Path) -> np.ndarray:
    """All frames, uint8 RGB."""
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_bad_row_costs_itself_only(tmp_path: Path) -> None:
    write_beeps(tmp_path / "beeps.wav", 2)
    (tmp_path / "broken.wav").write_bytes(b"RIFF but nothing more")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but nothing more")
    bad: list[tuple[dict[str, Any], str]] = [
        ({**SMALL, "id": "odd", "width": 65}, "width: must be even, got 65"),
        ({**SMALL, "id": "zero", "height": 0}, "height"),
        ({**SMALL, "id": "negative", "num_frames": -3}, "num_frames"),
        ({**SMALL, "id": "huge", "width": 10**6, "height": 10**6}, "width"),
        ({**SMALL, "id": "words", "fps": "fast"}, "fps"),
        ({"id": "silent", "width": 64}, "prompt"),
        ({**SMALL, "id": "../../etc/passwd"}, "id"),
        ({**SMALL, "id": "no-audio", "audio": "nowhere.wav"}, "nowhere.wav"),
        ({**SMALL, "id": "broken-audio", "audio": "broken.wav"}, "broken.wav"),
        ({**SMALL, "id": "late", "audio": "beeps.wav", "audio_start_s": 7}, "audio_start_s"),
        ({**SMALL, "id": "no-image", "image": "nowhere.png"}, "nowhere.png"),
        ({**SMALL, "id": "broken-image", "image": "broken.png"}, "broken.png"),
        ({**SMALL, "id": "GOOD"}, "which row"),
    ]
    rows = [{**SMALL, "id": "good"}, *(row for row, _ in bad), {**SMALL, "id": "last"}]
    manifest = write_manifest(tmp_path / "shots.jsonl", rows)
    with manifest.open("a") as file:
        file.write('{"prompt": "cut in the mid\n')
        file.write('{"prompt": NaN}\n')

    summary = render_here(manifest, tmp_path / "out")

    assert (summary.progress.done, summary.progress.failed) == (2, 0)
    assert summary.progress.rejected == len(bad) + 2
    found = manifest_rows(tmp_path / "out")
    assert len(found) == len(rows) + 2
    assert {row["id"] for row in found if row["status"] == "done"} == {"good", "last"}
    errors = {row["row"]: row["error"] for row in found if row["status"] == "rejected"}
    for number, (row, part) in enumerate(bad, 2):
        assert errors[number].startswith(f"row {number}: "), row
        assert part in errors[number], row
    assert len(errors) == len(bad) + 2

    checked = validate(str(manifest), RenderConfig())
    assert checked.rows == len(rows) + 2
    assert checked.valid == 2 + 1, "only audio_start_s needs more than a look at the rows and their files"


def test_sound_image_and_schedule_end_in_the_video_exactly_as_asked(tmp_path: Path) -> None:
    write_beeps(tmp_path / "beeps.wav", 4)
    Image.new("RGB", (200, 100), (200, 30, 30)).save(tmp_path / "red.png")
    rows = [
        {
            **SMALL,
            "id": "sounds",
            "num_frames": 60,
            "fps": 30,
            "audio": "beeps.wav",
            "audio_start_s": 1.5,
            "notes": {"kept": True},
        },
        {
            "id": "train-1",
            "prompts": [{"at_s": 0, "text": "a circle"}, {"at_s": 1, "text": "a square"}],
            "width": 70,
            "height": 54,
            "seconds": 2.1,
            "image": "red.png",
        },
    ]
    manifest = write_manifest(tmp_path / "shots.jsonl", rows)
    summary = render_here(manifest, tmp_path / "out")
    assert summary.progress.done == 2, summary.failures

    found = {row["id"]: row for row in manifest_rows(tmp_path / "out")}
    facts = probe_video(tmp_path / "out" / found["sounds"]["file_name"])
    assert (facts.num_frames, facts.fps, facts.seconds) == (60, 30, 2.0)
    assert facts.audio_seconds == pytest.approx(2.0, abs=1e-4)
    assert json.loads(found["sounds"]["input"])["notes"] == {"kept": True}
    assert found["sounds"]["chunks"][0]["start_frame"] == 0
    assert sum(c["num_frames"] for c in found["sounds"]["chunks"]) == 60

    video = tmp_path / "out" / found["train-1"]["file_name"]
    facts = probe_video(video)
    assert (facts.num_frames, facts.width, facts.height, facts.audio_seconds) == (50, 70, 54, None)
    frames = pixels_of(video).astype(float)
    assert frames.std() > 5, "the video is not one colour"
    assert np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)).min() > 0.05, "no frame is frozen"


def test_only_what_is_new_is_rendered(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [{**SMALL, "id": "a"}])
    render_here(manifest, tmp_path / "out")
    first = manifest_rows(tmp_path / "out")
    half = tmp_path / "out/ledger/0000/.lease.json.a.part"  # as a driver leaves it that is killed
    half.write_text("{")
    write_manifest(
        manifest, [{**SMALL, "id": "a", "tags": "new"}, {**SMALL, "id": "b"}, {**SMALL, "id": "c"}]
    )
    summary = render_here(manifest, tmp_path / "out", limit=2)
    assert (summary.progress.done, summary.progress.skipped) == (2, 1)
    assert not half.exists()
    assert sorted(row["id"] for row in manifest_rows(tmp_path / "out")) == ["a", "b"]
    write_manifest(manifest, [{**SMALL, "id": "a", "prompt": "something else"}])
    render_here(manifest, tmp_path / "out")
    rows = {row["id"]: row for row in manifest_rows(tmp_path / "out")}
    assert rows["a"]["generation"] == 2
    assert rows["a"]["sha256"] != first[0]["sha256"]
    assert rows["b"]["generation"] == 1


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("missing.jsonl", None, "missing.jsonl"),
        ("empty.jsonl", "", "at least one row"),
        ("shots.txt", "a red circle", "jsonl"),
        ("shots.parquet", "not parquet", "shots.parquet"),
    ],
)
def test_an_unreadable_manifest_is_told_at_once(
    name: str, content: str | None, part: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=part):
        render_here(tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing is written before the manifest can be read"


def test_another_config_on_the_same_output_is_refused_and_named(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [SMALL])
    render_here(manifest, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"encoding.crf was 18, now 30"):
        render_here(manifest, tmp_path / "out", "encoding.crf=30")
    render_here(manifest, tmp_path / "out", "pools.denoisers=2")  # decides no byte


def test_a_model_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    for file in tiny_path().rglob("*"):
        if file.is_file() and file.parent.name != "vae":
            target = model / file.relative_to(tiny_path())
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    manifest = write_manifest(tmp_path / "shots.jsonl", [SMALL])
    with pytest.raises(ModelError, match="vae"):
        render_here(manifest, tmp_path / "out", f"model.name={model}")
    assert not (tmp_path / "out").exists(), "nothing is written before the model is known to be whole"


def test_a_broken_transformer_stops_the_run_and_says_why(tmp_path: Path) -> None:
    model = tmp_path / "model"
    for file in tiny_path().rglob("*"):
        if file.is_file():
            target = model / file.relative_to(tiny_path())
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    config = json.loads((model / "transformer/config.json").read_text())
    (model / "transformer/config.json").write_text(json.dumps({**config, "num_layers": 14}))
    manifest = write_manifest(tmp_path / "shots.jsonl", [SMALL])
    with pytest.raises(LtxRayError, match="no worker for stage denoise"):
        render_here(manifest, tmp_path / "out", f"model.name={model}")


def test_a_disk_that_takes_no_more_stops_the_run_and_loses_nothing(tmp_path: Path) -> None:
    rows = [{**SMALL, "id": f"shot-{i}", "num_frames": 17} for i in range(3)]
    manifest = write_manifest(tmp_path / "shots.jsonl", rows)
    words = command(manifest, tmp_path / "out", "--address", "in-process")
    # No file may grow beyond 20 kB: ledger and conditioning fit, videos and chunks do not.
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "limited", *words]
    process = start(limited)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "could not write" in stderr
    assert "give the same command again" in stderr
    finish(start(words))
    assert {row["status"] for row in manifest_rows(tmp_path / "out")} == {"done"}
    assert len(manifest_rows(tmp_path / "out")) == 3

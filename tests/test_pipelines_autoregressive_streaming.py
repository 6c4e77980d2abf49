"""A streamed video is on disk, whole, and that of an unbroken call, however often it was stopped."""

import json
from pathlib import Path
from typing import Any

import av
import fsspec
import numpy as np
import pytest
import torch
from small_transformer import open_gates, random
from tiny_pipelines import LONG_CALL, hearing_pipeline

from ltx_ray.config import DecodingConfig
from ltx_ray.errors import ConfigError
from ltx_ray.pipelines import tiling
from ltx_ray.pipelines.autoregressive_pipeline import (
    AutoregressiveLTXVideoPipeline,
    AutoregressiveVideoOutput,
    create_autoregressive_pipeline,
)
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

HEARD = random(3, 1, 90, 128)


@pytest.fixture(scope="module")
def base() -> LTXVideoPipeline:
    return hearing_pipeline()


@pytest.fixture
def long(base: LTXVideoPipeline, monkeypatch: pytest.MonkeyPatch) -> AutoregressiveLTXVideoPipeline:
    # Slabs of 32 frames, so that a short video has several.
    monkeypatch.setattr(tiling, "DecodingConfig", lambda: DecodingConfig(slab_frames=32))
    return create_autoregressive_pipeline(base, chunk_size=33, overlap_frames=8)


def made(long: AutoregressiveLTXVideoPipeline, folder: Any, **changes: Any) -> AutoregressiveVideoOutput:
    long.enable_streaming(folder)
    return long.generate_long_video(**{**LONG_CALL, "audio_latents": HEARD, **changes})


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def frames_of(path: str) -> np.ndarray[Any, Any]:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


class Stopped(Exception):
    """What a user's callback raises."""


def stop_after(chunk: int, video: int = 0) -> Any:
    def callback(pipeline: Any, index: int, what: dict[str, Any]) -> None:
        if (what["video"], index) == (video, chunk):
            raise Stopped

    return callback


def steps_of(told: list[tuple[int, int]]) -> Any:
    return lambda pipeline, step, t, where: told.append((where["video"], where["chunk_index"]))


def test_a_streamed_video_lies_in_the_folder_and_not_in_memory(
    long: AutoregressiveLTXVideoPipeline, tmp_path: Path
) -> None:
    output = made(long, tmp_path)
    assert output.frames is None
    assert output.latents is None
    assert output.chunk_boundaries == [(0, 33), (33, 60)]
    assert output.video_paths == [str(tmp_path / "video-0000.mp4")]
    assert sorted(files(tmp_path)) == [
        "call.json",
        "video-0000.mp4",
        "video-0000/chunk-0000.safetensors",
        "video-0000/chunk-0001.safetensors",
        "video-0000/segment-0000.mp4",
        "video-0000/segment-0001.mp4",
        "video-0000/segment-0002.mp4",
    ]
    # The same frames as in memory, but for what encoding does to them.
    long.disable_streaming()
    held = long.generate_long_video(**LONG_CALL, audio_latents=HEARD, output_type="np")
    streamed = frames_of(output.video_paths[0])
    assert streamed.shape == (60, 32, 64, 3)
    assert np.abs(streamed / 255 - held.frames[0]).mean() < 0.03


@pytest.mark.parametrize("chunk", [0, 1])
def test_a_stopped_call_goes_on_with_the_first_chunk_that_is_not_there(
    long: AutoregressiveLTXVideoPipeline, tmp_path: Path, chunk: int
) -> None:
    made(long, tmp_path / "whole", prompt=["a", "b"])
    with pytest.raises(Stopped):
        made(long, tmp_path / "part", prompt=["a", "b"], callback_on_chunk_end=stop_after(chunk))
    assert "video-0000.mp4" not in files(tmp_path / "part")
    done = {(0, index) for index in range(chunk + 1)}
    steps: list[tuple[int, int]] = []
    chunks = []
    output = made(
        long,
        tmp_path / "part",
        prompt=["a", "b"],
        callback_on_step_end=steps_of(steps),
        callback_on_chunk_end=lambda pipe, index, what: chunks.append((what["video"], index)),
    )
    everything = [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert steps == [entry for entry in everything for _ in range(2) if entry not in done]
    assert chunks == everything
    assert files(tmp_path / "part") == files(tmp_path / "whole")
    assert [Path(path).name for path in output.video_paths or []] == ["video-0000.mp4", "video-0001.mp4"]


def test_a_finished_call_does_nothing_again(long: AutoregressiveLTXVideoPipeline, tmp_path: Path) -> None:
    made(long, tmp_path)
    before = files(tmp_path)
    steps: list[tuple[int, int]] = []
    assert made(long, tmp_path, callback_on_step_end=steps_of(steps)).video_paths == [
        str(tmp_path / "video-0000.mp4")
    ]
    assert steps == []
    assert files(tmp_path) == before


@pytest.mark.parametrize("name", ["chunk-0001.safetensors", "segment-0000.mp4", "segment-0002.mp4"])
def test_what_is_lost_from_the_folder_is_made_again(
    long: AutoregressiveLTXVideoPipeline, tmp_path: Path, name: str
) -> None:
    made(long, tmp_path)
    before = files(tmp_path)
    (tmp_path / "video-0000" / name).unlink()
    (tmp_path / "video-0000.mp4").unlink()
    made(long, tmp_path)
    assert files(tmp_path) == before


def test_a_chunk_that_was_cut_is_made_again(long: AutoregressiveLTXVideoPipeline, tmp_path: Path) -> None:
    made(long, tmp_path)
    before = files(tmp_path)
    path = tmp_path / "video-0000" / "chunk-0001.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    steps: list[tuple[int, int]] = []
    made(long, tmp_path, callback_on_step_end=steps_of(steps))
    assert steps == [(0, 1), (0, 1)]
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "a boat"}, r"prompts was \[\['a tide'\]\], now \[\['a boat'\]\]"),
        ({"seed": 4}, "seed was 3, now 4"),
        ({"total_frames": 61}, "num_frames was 60, now 61"),
        ({"guidance_scale": 2.0}, "guidance_scale was 1.0, now 2.0"),
        ({"num_inference_steps": 3}, "num_inference_steps was 2, now 3"),
        ({"audio_latents": HEARD + 1}, "another audio"),
        ({"audio_latents": None}, r"audio was given, now \[None\]"),
        ({"audio_guidance_scale": 2.0}, "audio_guidance_scale was 1.0, now 2.0"),
        ({"frame_rate": 30.0}, "frame_rate was 24.0, now 30.0"),
        ({"decode_noise_scale": 0.1}, "decode_noise_scale was"),
        ({"width": 32}, "width was 64, now 32"),
    ],
)
def test_another_call_on_the_same_folder_is_refused_with_what_differs(
    long: AutoregressiveLTXVideoPipeline, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(Stopped):
        made(long, tmp_path, callback_on_chunk_end=stop_after(0))
    before = files(tmp_path)
    with pytest.raises(ConfigError, match=f"holds chunks of another call .{words}"):
        made(long, tmp_path, **changes)
    assert files(tmp_path) == before


def test_another_model_or_other_chunks_are_another_call(
    base: LTXVideoPipeline, long: AutoregressiveLTXVideoPipeline, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        made(long, tmp_path, callback_on_chunk_end=stop_after(0))
    with pytest.raises(ConfigError, match="chunks was"):
        made(create_autoregressive_pipeline(base, chunk_size=41, overlap_frames=8), tmp_path)
    usual = base.scheduler
    base.scheduler = type(usual).from_config(usual.config, base_shift=1.5)
    try:
        with pytest.raises(ConfigError, match="scheduler was"):
            made(long, tmp_path)
    finally:
        base.scheduler = usual
    gates = [block.gate for block in base.transformer.audio_blocks().values()]
    try:
        with torch.no_grad():
            gates[0].add_(0.1)
        with pytest.raises(ConfigError, match="another transformer"):
            made(long, tmp_path)
    finally:
        open_gates(base.transformer)
    assert made(long, tmp_path).video_paths, "and the same call still goes on"


def test_what_changes_no_pixel_is_the_same_call(long: AutoregressiveLTXVideoPipeline, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        made(long, tmp_path, callback_on_chunk_end=stop_after(0))
    steps: list[tuple[int, int]] = []
    made(long, tmp_path, output_type="np", frame_rate=24, callback_on_step_end=steps_of(steps))
    assert steps == [(0, 1), (0, 1)]


def test_a_call_that_names_no_seed_goes_on_with_the_folders(
    long: AutoregressiveLTXVideoPipeline, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        made(long, tmp_path, seed=None, callback_on_chunk_end=stop_after(0))
    seed = json.loads((tmp_path / "call.json").read_text())["seed"]
    steps: list[tuple[int, int]] = []
    output = made(long, tmp_path, seed=None, callback_on_step_end=steps_of(steps))
    assert output.seed == seed
    assert steps == [(0, 1), (0, 1)]
    made(long, tmp_path / "named", seed=seed)
    assert files(tmp_path / "named") == {
        name: content for name, content in files(tmp_path).items() if not name.startswith("named/")
    }


def test_a_folder_can_lie_behind_a_url(long: AutoregressiveLTXVideoPipeline) -> None:
    try:
        output = made(long, "memory://videos/tide")
        (path,) = output.video_paths or []
        with fsspec.open(path) as file:
            assert len(file.read()) > 1000
    finally:
        fsspec.filesystem("memory").rm("videos", recursive=True)

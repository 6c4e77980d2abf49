"""A row's sound drives its picture: chunked = one process = a cluster = the guide's pipeline, bit for bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapters import tiny_adapter
from runs import (
    QUICK,
    command,
    finish,
    manifest_rows,
    render_here,
    start,
    video_hashes,
    write_beeps,
    write_manifest,
)
from safetensors.torch import load_file

from ltx_ray.config import EncodingConfig
from ltx_ray.media.probe import sha256_file
from ltx_ray.media.segment import SegmentWriter
from ltx_ray.models.audio.encode import encode_shot_audio
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.pipelines.autoregressive_pipeline import create_autoregressive_pipeline
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

SOUND = {"audio": "clicks.wav", "audio_start_s": 0.4}
LONG = {
    "id": "long",
    "prompt": "a red circle",
    "width": 96,
    "height": 64,
    "num_frames": 60,
    "seed": 3,
    **SOUND,
}
SHOTS: list[dict[str, Any]] = [
    LONG,
    {
        "id": "guided",
        "prompt": "a blue square",
        "width": 64,
        "height": 64,
        "num_frames": 25,
        "seed": 4,
        **SOUND,
    }
    | {"audio_guidance_scale": 3, "guidance_scale": 1},
    {"id": "silent", "prompt": "a red circle", "width": 96, "height": 64, "num_frames": 60, "seed": 3},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("audio")
    write_beeps(made / "clicks.wav", 4.0)
    write_manifest(made / "shots.jsonl", SHOTS)
    tiny_adapter(made)
    return made


@pytest.fixture(scope="module")
def settings(folder: Path) -> tuple[str, ...]:
    return (f"model.audio_adapter={folder}/audio_adapter.safetensors", "limits.keep_work=true")


@pytest.fixture(scope="module")
def rendered(folder: Path, settings: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of one process without Ray, chunks kept."""
    out = tmp_path_factory.mktemp("in-process")
    words = command(folder / "shots.jsonl", out, "--address", "in-process", settings=(*QUICK, *settings))
    finish(start(words))
    return out


def final_latents(out: Path, shot: str) -> torch.Tensor:
    """The durable chunks of a shot, as one tensor."""
    files = sorted((out / "work/0000" / shot).glob("chunk-*.safetensors"))
    return torch.cat([load_file(file)["final"] for file in files], dim=2)


def test_a_cluster_makes_the_same_bytes(
    folder: Path, settings: tuple[str, ...], rendered: Path, tmp_path: Path
) -> None:
    words = command(folder / "shots.jsonl", tmp_path, "--denoisers", "2", settings=(*QUICK, *settings))
    finish(start(words))
    assert len(video_hashes(rendered)) == len(SHOTS)
    assert video_hashes(tmp_path) == video_hashes(rendered)


def test_the_sound_moves_the_picture_and_only_where_there_is_sound(
    folder: Path, rendered: Path, tmp_path: Path
) -> None:
    render_here(folder / "shots.jsonl", tmp_path, "limits.keep_work=true", 'model.audio_adapter="none"')
    heard, deaf = final_latents(rendered, "long"), final_latents(tmp_path, "long")
    assert (heard - deaf).abs().mean() > 0.01
    assert torch.equal(deaf, final_latents(rendered, "silent")), "the seed, the prompt and the size are equal"
    assert torch.equal(final_latents(tmp_path, "silent"), final_latents(rendered, "silent"))


def test_the_guides_pipeline_makes_the_same_latents_and_frames(
    folder: Path, rendered: Path, tmp_path: Path
) -> None:
    pipeline = LTXVideoPipeline.from_pretrained("tiny")
    pipeline.set_progress_bar_config(disable=True)
    adapter = AudioAdapter.from_pretrained(folder)
    pipeline.transformer = adapter.attach(pipeline.transformer)
    track = encode_shot_audio(adapter.encoder, str(folder / "clicks.wav"), 0.4, 60 / 24)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as an actor has
    try:
        output = create_autoregressive_pipeline(pipeline, 25, 8).generate_long_video(
            "a red circle",
            total_frames=60,
            height=64,
            width=96,
            num_inference_steps=3,
            guidance_scale=3.0,
            audio_latents=track,
            seed=3,
            output_type="pil",
        )
    finally:
        torch.set_num_threads(threads)
    assert len(output.chunk_boundaries) == 3
    assert torch.equal(output.latents, final_latents(rendered, "long"))
    (segment,) = (rendered / "work/0000/long").glob("segment-*.mp4")
    with SegmentWriter(tmp_path / "ours.mp4", 96, 64, 24.0, 0, EncodingConfig()) as writer:
        for frame in output.frames[0]:
            writer.write(np.asarray(frame))
    assert sha256_file(tmp_path / "ours.mp4") == sha256_file(segment)


def test_every_setting_of_the_sound_is_part_of_the_run(
    folder: Path, settings: tuple[str, ...], rendered: Path, tmp_path: Path
) -> None:
    """Another adapter, or another guidance by audio, is another run; the file's place is not."""
    content = json.loads((rendered / "run.json").read_text())["content"]
    assert len(content["model"]["audio_adapter"]) == 64
    other = tiny_adapter(tmp_path / "other", seed=6)
    words = command(
        folder / "shots.jsonl",
        rendered,
        "--address",
        "in-process",
        settings=(*QUICK, f"model.audio_adapter={other}"),
    )
    process = start(words)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "model.audio_adapter was" in told
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes((folder / "audio_adapter.safetensors").read_bytes())
    summary = render_here(folder / "shots.jsonl", rendered, f"model.audio_adapter={copied}", settings[1])
    assert summary.progress.skipped == len(SHOTS)


def test_a_row_chooses_its_own_guidance_chunks_and_coherence(
    folder: Path, settings: tuple[str, ...], rendered: Path, tmp_path: Path
) -> None:
    rows = [
        {**LONG, "id": "strong", "audio_guidance_scale": 4},
        {**LONG, "id": "long-chunks", "chunk_size": 49, "overlap_frames": 16},
        {**LONG, "id": "coherent", "coherence_guidance": 1},
    ]
    manifest = write_manifest(folder / "rows.jsonl", rows)
    render_here(manifest, tmp_path, *settings)
    assert {row["status"] for row in manifest_rows(tmp_path)} == {"done"}
    plain = final_latents(rendered, "long")
    chunks = {row["id"]: len(row["chunks"]) for row in manifest_rows(tmp_path)}
    assert chunks == {"strong": 3, "long-chunks": 2, "coherent": 3}
    for row in rows:
        assert not torch.equal(final_latents(tmp_path, str(row["id"])), plain), row["id"]
    # The first chunk has no seam, so nothing is steered there.
    assert torch.equal(final_latents(tmp_path, "coherent")[:, :, :3], plain[:, :, :3])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("sampling.audio_guidance_scale=3", 'model.audio_adapter="none"'), "no audio adapter"),
        (("model.audio_adapter=nothing.safetensors",), "the audio adapter must be a readable .safetensors"),
        (("model.lora=nothing.safetensors",), "the LoRA must be a readable .safetensors"),
        (("model.quantization=fp4",), "model.quantization"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_done(
    folder: Path, tmp_path: Path, settings: tuple[str, ...], told: str
) -> None:
    words = command(folder / "shots.jsonl", tmp_path, "--address", "in-process", settings=(*QUICK, *settings))
    process = start(words)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert told in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []

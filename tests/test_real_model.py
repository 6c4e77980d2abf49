"""The real 2B configuration, with random weights: the guide's own numbers; adapter, tiles and fp8."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from adapters import open_gates
from guide import run_page
from real_model import real_pipeline

from ltx_ray.media.probe import probe_video
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.quantization import quantize_model

pytestmark = pytest.mark.slow

REAL = {r'LTXVideoPipeline\.from_pretrained\("Lightricks/LTX-Video"\)': "real_pipeline()"}
SMALL = {r"num_inference_steps=\d+": "num_inference_steps=1"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    yield
    gc.collect()


def test_the_snippets_about_sound_run_with_the_guides_numbers() -> None:
    changes = {**REAL, "height=512": "height=64", "width=768": "width=64, num_inference_steps=1"}
    names = run_page("audio.md", changes, real_pipeline=real_pipeline)
    assert len(names["output"].frames[0]) == 257
    assert list(names["fresh"].transformer.audio_blocks()) == [8, 9, 10, 11, 12]


def test_the_snippets_about_long_videos_run_with_the_guides_numbers(tmp_path: Path) -> None:
    changes = {**REAL, **SMALL, "height=512": "height=32", "width=768": "width=64"}
    changes["/tmp/video_chunks"] = f"{tmp_path}/chunks"
    names = run_page("long_video.md", changes, real_pipeline=real_pipeline)
    assert len(names["output"].chunk_boundaries) == 4
    assert probe_video(Path(names["output"].video_paths[0])).num_frames == 360


def test_the_guides_complete_example_runs_with_its_own_numbers(tmp_path: Path) -> None:
    changes = {**REAL, **SMALL, "height=2160": "height=54", "width=3840": "width=96"}
    changes["/tmp/video_chunks"] = f"{tmp_path}/chunks"
    names = run_page("integration_guide.md", changes, real_pipeline=real_pipeline)
    assert list(names["transformer"].audio_blocks()) == list(range(6, 17))
    assert names["output"].frames[0][0].size == (96, 54)
    assert len(names["output"].frames[0]) == 257


@torch.no_grad()
def test_adapter_tiles_and_fp8_work_together(tmp_path: Path) -> None:
    pipeline = real_pipeline()
    add_audio_cross_attention_to_transformer(pipeline.transformer)
    open_gates(pipeline.transformer, std=0.1)
    encoder = AudioEncoder()
    path = AudioAdapter.of(pipeline.transformer, encoder).save_pretrained(tmp_path)
    loaded = AudioAdapter.from_pretrained(path)
    assert sum(parameter.numel() for parameter in loaded.blocks.parameters()) == 85_260_800

    audio = encoder(0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)))
    pipeline.vae.decoder = create_adaptive_decoder(pipeline.vae)
    call = {"prompt": "a tide", "num_frames": 17, "height": 160, "width": 256, "num_inference_steps": 1}
    made = {}
    for name in ("whole", "tiled", "fp8"):
        if name == "tiled":
            pipeline.vae.decoder.enable_tiling(tile_size=160, overlap=64)
        if name == "fp8":
            report = quantize_model(pipeline, mode="fp8")
            assert report.bytes_after < 0.6 * report.bytes_before
        generator = torch.Generator().manual_seed(1)
        frames = pipeline(**call, audio_latents=audio, generator=generator, output_type="pt").frames
        assert torch.isfinite(frames).all()
        assert pipeline.vae.decoder.last_plan.tiled == (name != "whole")
        made[name] = frames
    assert (made["tiled"] - made["whole"]).abs().mean() < 0.05
    assert 0 < (made["fp8"] - made["tiled"]).abs().mean() < 0.1

"""Every snippet of the guide, and its complete example, runs: small here, the real 2B model when slow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from guide import DOCS, run_page

from ltx_ray.media.probe import probe_video
from ltx_ray.models.autoencoders.adaptive_vae_decoder import AdaptiveVAEDecoder
from ltx_ray.models.transformers.audio_transformer import AudioLTXVideoTransformer3DModel

ROOT = DOCS.parent
MODEL = {'"Lightricks/LTX-Video"': '"tiny"'}
STEPS = {r"num_inference_steps=\d+": "num_inference_steps=1"}
SMALL_SIZE = {r"height=512": "height=64", r"width=768": "width=96"}
# 4K made small, but not a multiple of 32, as 2160 is none.
SMALL_4K = {r"height=2160": "height=120", r"width=3840": "width=224"}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


def test_the_snippets_about_sound() -> None:
    names = run_page(
        "audio.md", {**MODEL, **SMALL_SIZE, "num_frames=257": "num_frames=25, num_inference_steps=1"}
    )
    assert isinstance(names["fresh"].transformer, AudioLTXVideoTransformer3DModel)
    assert names["audio_latents"].shape == (1, 250, 128)
    assert len(names["output"].frames[0]) == 25
    assert Path("adapters/stage/audio_adapter.safetensors").is_file()


def test_the_snippets_about_long_videos(tmp_path: Path) -> None:
    changes = {**MODEL, **SMALL_SIZE, **STEPS, "/tmp/video_chunks": f"{tmp_path}/chunks"}
    names = run_page("long_video.md", changes)
    assert len(names["output"].chunk_boundaries) == 4, "360 frames at 121/24"
    assert probe_video(Path(names["output"].video_paths[0])).num_frames == 360


def test_the_guides_complete_example_and_its_changes(tmp_path: Path) -> None:
    changes = {
        **MODEL,
        **SMALL_4K,
        **STEPS,
        # The VAE's own number of channels, where the guide has that of the real one; tiny has 13 layers.
        "latent_channels=128,\n    compression_levels": "latent_channels=48,\n    compression_levels",
        "end_layer=16": "end_layer=12",
        "num_frames=257": "num_frames=25",
        "tile_size=1024": "tile_size=160",
        "overlap=128": "overlap=64",
        "/tmp/video_chunks": f"{tmp_path}/chunks",
    }
    names = run_page("integration_guide.md", changes)
    assert isinstance(names["pipeline"].vae.decoder, AdaptiveVAEDecoder)
    assert isinstance(names["pipeline"].transformer, AudioLTXVideoTransformer3DModel)
    assert names["output"].frames[0][0].size == (224, 120)
    assert names["loss"] > 0


@pytest.mark.parametrize("page", ["adaptive_decoder.md", "coherence.md", "quantization.md"])
def test_the_snippets_about(page: str) -> None:
    run_page(page, SNIPPETS[page])


def test_the_snippet_about_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page("training.md", {r"range\(8\)": "range(2)"})
    assert len((tmp_path / "clips" / "metadata.jsonl").read_text().splitlines()) == 2


SNIPPETS: dict[str, dict[str, str]] = {
    "adaptive_decoder.md": {
        **MODEL,
        **SMALL_4K,
        **STEPS,
        "num_frames=257": "num_frames=25",
        "tile_size=1024": "tile_size=224",
    },
    "coherence.md": {},
    "quantization.md": MODEL,
}


def test_the_example_writes_a_video_with_sound(tmp_path: Path) -> None:
    output = tmp_path / "made" / "video.mp4"
    words = [sys.executable, str(ROOT / "examples/integration_example.py"), "--output", str(output)]
    words += ["--frames", "30", "--height", "64", "--width", "96", "--steps", "1", "--chunk-size", "25"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert "Generated 2 chunks" in run.stdout
    facts = probe_video(output)
    assert (facts.num_frames, facts.width, facts.height) == (30, 96, 64)
    assert facts.audio_seconds == pytest.approx(30 / 24, abs=0.03)

"""The built-in checkpoint: begun deterministically, loaded by plain diffusers, and showing what is asked."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXI2VLongMultiPromptPipeline, LTXPipeline

from ltx_ray.checkpoints import tiny_path
from ltx_ray.decoding.tile import normalize
from ltx_ray.models.build_tiny import start
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.training.vae import psnr
from ltx_ray.training.world import scene
from ltx_ray.training.world_data import as_clip
from ltx_ray.training.world_picture import render

# What differs by version, and by the precision in which it is stored.
VERSIONS = ("_diffusers_version", "transformers_version", "dtype")


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def config(path: Path) -> dict[str, object]:
    content = json.loads(path.read_text())
    return {key: value for key, value in content.items() if key not in VERSIONS}


@pytest.fixture(scope="module")
def pipeline() -> LTXPipeline:
    pipeline = LTXPipeline.from_pretrained(tiny_path(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_training_begins_with_the_same_bytes(tmp_path: Path) -> None:
    start(tmp_path / "a")
    torch.manual_seed(123)  # the build must not depend on what was drawn before it
    start(tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert resolve(str(tmp_path / "a")).weights_hash() == resolve(str(tmp_path / "b")).weights_hash()


def test_what_is_shipped_has_the_configs_that_training_begins_with(tmp_path: Path) -> None:
    start(tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {path.relative_to(tiny_path()) for path in tiny_path().rglob("*") if path.is_file()}
    assert shipped - made == {Path("README.md"), Path("training.json"), Path("audio_adapter.safetensors")}
    assert made <= shipped
    for path in sorted(path for path in made if path.suffix == ".json"):
        assert config(tiny_path() / path) == config(tmp_path / path), path


def test_it_comes_with_its_audio_adapter() -> None:
    file = resolve("tiny").audio_adapter(None)
    assert file == str(tiny_path() / "audio_adapter.safetensors")
    adapter = AudioAdapter.from_pretrained(file)
    assert (adapter.layers.start_layer, adapter.layers.end_layer) == (8, 12)
    assert min(float(block.gate.abs().max()) for block in adapter.blocks.values()) > 0.01
    assert resolve("tiny").audio_adapter("none") is None


def test_it_is_small_and_stored_in_bfloat16() -> None:
    assert sum(path.stat().st_size for path in tiny_path().rglob("*") if path.is_file()) < 24_000_000
    for path in tiny_path().rglob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"BF16"}


def test_it_has_the_ratios_and_the_layers_that_the_real_ones_have() -> None:
    tiny = resolve("tiny")
    assert (tiny.ratios().time, tiny.ratios().space) == (8, 32)
    assert tiny.transformer_config()["num_layers"] >= 13  # audio goes to the layers 8-12
    assert tiny.scheduler_config()["use_dynamic_shifting"] is True
    assert tiny.scheduler_config()["shift_terminal"] == 0.1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a red circle",
        "ROT größer",
        "赤い丸",
        "\U0001f388 \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\x00\n\t",
        "a" * 5000,
    ],
)
def test_any_text_has_tokens_and_comes_back_from_them(text: str) -> None:
    tokenizer, _ = resolve("tiny").load_text_encoder(torch.float32, "cpu")
    ids = tokenizer(text).input_ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token is None
    decoded = tokenizer.decode(ids[:-1], clean_up_tokenization_spaces=False)
    assert decoded.removeprefix(" ") == text.removeprefix(" ")
    padded = tokenizer(text, padding="max_length", max_length=128, truncation=True)
    assert len(padded.input_ids) == tokenizer.model_max_length == 128


def test_the_vae_gives_back_what_it_is_shown() -> None:
    vae = resolve("tiny").load_vae(torch.float32, "cpu")
    errors = []
    for seed in range(4):
        clip = as_clip(render(scene(seed, 1, "held_out"), 17, 96, 128))[None]
        with torch.no_grad():
            made = vae.decode(vae.encode(clip).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append(float((made - clip).square().mean()))
    assert psnr(sum(errors) / 4) > 27
    # Normalised latents are about standard normal, as a transformer wants them.
    with torch.no_grad():
        latents = normalize(vae.encode(clip).latent_dist.mode(), vae)
    assert latents.mean().abs() < 0.5
    assert 0.5 < latents.std() < 2


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
def test_a_shape_has_the_colour_of_its_prompt(pipeline: LTXPipeline, colour: str) -> None:
    frames = pipeline(
        f"a {colour} circle moving right",
        height=96,
        width=96,
        num_frames=33,
        num_inference_steps=12,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(1),
        output_type="np",
    ).frames[0]
    named = ["red", "green", "blue"].index(colour)
    shares = [saturated(frames, channel) for channel in range(3)]
    assert shares[named].max() > 0.04  # there is a shape of the colour
    for other in {0, 1, 2} - {named}:
        assert shares[other].max() < 0.01  # and of no other


def saturated(frames: np.ndarray, channel: int) -> np.ndarray:  # type: ignore[type-arg]
    """Part of each frame [F] that has the colour of a channel, of frames [F, H, W, 3] in 0..1."""
    others = [other for other in range(3) if other != channel]
    return (frames[..., channel] - frames[..., others].max(axis=-1) > 0.3).mean(axis=(1, 2))


def sample(pipeline: LTXPipeline, prompt: str, seed: int) -> torch.Tensor:
    return pipeline(
        prompt,
        negative_prompt="blurry",
        height=64,
        width=96,
        num_frames=17,
        num_inference_steps=30,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
    ).frames


def test_plain_diffusers_samples_by_prompt_and_seed(pipeline: LTXPipeline) -> None:
    red = sample(pipeline, "a red circle", 0)
    assert red.isfinite().all()
    assert 0.5 < red.std() < 3
    assert torch.equal(red, sample(pipeline, "a red circle", 0))
    assert (red - sample(pipeline, "a red circle", 1)).std() > 0.5
    assert (red - sample(pipeline, "a blue square moving up", 0)).std() > 0.1


def test_the_long_video_pipeline_loads_and_samples() -> None:
    pipeline = LTXI2VLongMultiPromptPipeline.from_pretrained(tiny_path(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()  # it cannot use a dynamic shift
    latents = pipeline(
        "a red circle",
        height=64,
        width=96,
        num_frames=41,
        temporal_tile_size=32,
        temporal_overlap=16,
        sigmas=[1.0, 0.7, 0.3, 0.0],
        guidance_scale=3.0,
        skip_steps_sigma_threshold=None,
    ).frames
    assert latents.isfinite().all()
    assert latents.shape[1] == 48

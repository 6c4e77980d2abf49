"""The built-in checkpoint: made deterministically, loaded by plain diffusers, and showing something."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXI2VLongMultiPromptPipeline, LTXPipeline

from ltx_ray.checkpoints import tiny_path
from ltx_ray.decoding.tile import denormalize
from ltx_ray.models.build_tiny import build
from ltx_ray.models.checkpoint import resolve

VERSIONS = ("_diffusers_version", "transformers_version")


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


def test_two_builds_are_equal_to_the_byte(tmp_path: Path) -> None:
    build(tmp_path / "a")
    torch.manual_seed(123)  # the build must not depend on what was drawn before it
    build(tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert resolve(str(tmp_path / "a")).weights_hash() == resolve(str(tmp_path / "b")).weights_hash()


def test_what_is_shipped_has_the_configs_that_the_script_makes(tmp_path: Path) -> None:
    build(tmp_path)
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert made == {path.relative_to(tiny_path()) for path in tiny_path().rglob("*") if path.is_file()}
    for path in sorted(path for path in made if path.suffix == ".json"):
        assert config(tiny_path() / path) == config(tmp_path / path), path


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


def test_latents_decode_to_smooth_colours_that_differ_by_latent() -> None:
    vae = resolve("tiny").load_vae(torch.float32, "cpu")
    videos = []
    for seed in (0, 1):
        latents = torch.randn(1, 48, 3, 3, 4, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            videos.append(vae.decode(denormalize(latents, vae)).sample)
    for video in videos:
        assert video.shape == (1, 3, 17, 96, 128)
        assert 0.25 < video.std() < 0.8  # neither grey nor all clipped
        assert (video.abs() > 1).float().mean() < 0.15
        for axis in (2, 3, 4):  # blobs, not static: neighbours are far closer than the whole spreads
            assert video.diff(dim=axis).std() < 0.3 * video.std()
        assert (video[:, :, 0] - video[:, :, -1]).std() > 0.1  # and they move
    assert (videos[0] - videos[1]).std() > 0.25


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

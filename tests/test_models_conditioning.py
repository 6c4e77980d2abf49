"""Conditioning: prompts and images become what diffusers' own pipelines make of them."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTXI2VLongMultiPromptPipeline, LTXPipeline
from PIL import Image

from ltx_ray.checkpoints import tiny_path
from ltx_ray.decoding.tile import denormalize
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.conditioning import encode_image, encode_prompts

PROMPTS = ["a red circle moving up", "", "a \N{BALLOON} that is über-groß " * 40]


@pytest.fixture(scope="module")
def pipeline() -> LTXPipeline:
    return LTXPipeline.from_pretrained(tiny_path(), dtype=torch.float32)


@pytest.fixture(scope="module")
def long_pipeline() -> LTXI2VLongMultiPromptPipeline:
    pipeline = LTXI2VLongMultiPromptPipeline.from_pretrained(tiny_path(), dtype=torch.float32)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler()  # it cannot use a dynamic shift
    return pipeline


def test_prompts_are_encoded_as_by_diffusers(pipeline: LTXPipeline) -> None:
    tokenizer, encoder = resolve("tiny").load_text_encoder(torch.float32, "cpu")
    embeds, mask = encode_prompts(tokenizer, encoder, PROMPTS)
    assert embeds.shape == (3, 128, 64)
    assert mask.dtype == torch.bool
    for index, prompt in enumerate(PROMPTS):
        with torch.no_grad():
            expected, expected_mask = pipeline._get_t5_prompt_embeds(prompt, device=torch.device("cpu"))
        assert torch.equal(embeds[index], expected[0])
        assert torch.equal(mask[index], expected_mask[0])
    assert mask.sum(dim=1).tolist()[1:] == [1, 128]  # only the end token; cut to the longest


def test_an_embedding_does_not_depend_on_its_neighbours() -> None:
    tokenizer, encoder = resolve("tiny").load_text_encoder(torch.float32, "cpu")
    together, _ = encode_prompts(tokenizer, encoder, PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        alone, _ = encode_prompts(tokenizer, encoder, [prompt])
        assert torch.equal(alone[0], together[index])
    assert not torch.allclose(together[0], together[2])


def test_an_image_is_encoded_as_by_diffusers(long_pipeline: LTXI2VLongMultiPromptPipeline) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    ours = encode_image(resolve("tiny").load_vae(torch.float32, "cpu"), image)
    assert ours.shape == (1, 48, 1, 2, 3)

    # With a strength of 1 the pipeline keeps the image's latent, so it stands in the first frame.
    frames = long_pipeline(
        prompt="x",
        height=64,
        width=96,
        num_frames=9,
        sigmas=[1.0, 0.0],
        guidance_scale=1.0,
        cond_image=Image.fromarray(image),
        cond_strength=1.0,
        output_type="latent",
    ).frames
    assert torch.equal(frames[:, :, :1], ours)


def test_denormalize_is_the_pipelines_and_undoes_the_normalisation(pipeline: LTXPipeline) -> None:
    vae = resolve("tiny").load_vae(torch.float32, "cpu")
    latents = torch.randn(1, 48, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    raw = denormalize(latents, vae)
    scale = vae.config.scaling_factor
    assert torch.equal(raw, pipeline._denormalize_latents(latents, vae.latents_mean, vae.latents_std, scale))
    back = pipeline._normalize_latents(raw, vae.latents_mean, vae.latents_std, scale)
    assert torch.allclose(back, latents, atol=1e-5)
    assert not torch.allclose(raw, latents, atol=0.1)

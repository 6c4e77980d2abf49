"""Offloaded pipelines make what others make, and let go of the device when they have."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_transformer import random
from tiny_pipelines import LONG_CALL, deaf_pipeline, hearing_pipeline, offloaded

from ltx_ray.models.autoencoders import band_encoding
from ltx_ray.models.autoencoders.encoder_layers import encoder_bytes_per_cell
from ltx_ray.models.conditioning import encode_image, encode_prompts
from ltx_ray.pipelines.autoregressive_pipeline import (
    AutoregressiveLTXVideoPipeline,
    create_autoregressive_pipeline,
)
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

PICTURE = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
HEARD = random(3, 1, 90, 128)


def model_offloaded(pipeline: LTXVideoPipeline) -> LTXVideoPipeline:
    pipeline.enable_model_cpu_offload(device="cpu")
    return pipeline


def long_of(base: LTXVideoPipeline) -> AutoregressiveLTXVideoPipeline:
    return create_autoregressive_pipeline(base, chunk_size=33, overlap_frames=8)


@pytest.mark.parametrize("offload", [offloaded, model_offloaded])
def test_a_long_video_with_an_image_is_the_same_offloaded(offload: Any) -> None:
    call = {**LONG_CALL, "image": Image.fromarray(PICTURE), "guidance_scale": 2.0, "output_type": "np"}
    wanted = long_of(deaf_pipeline()).generate_long_video(**call)
    made = long_of(offload(deaf_pipeline())).generate_long_video(**call)
    assert torch.equal(made.latents, wanted.latents)
    assert np.array_equal(made.frames, wanted.frames)


@pytest.mark.parametrize("offload", [offloaded, model_offloaded])
def test_both_pipelines_hear_the_same_offloaded(offload: Any) -> None:
    whole, moved = hearing_pipeline(), offload(hearing_pipeline())
    call: dict[str, Any] = {"audio_latents": HEARD, "audio_guidance_scale": 2.0, "output_type": "latent"}
    long = {**LONG_CALL, **call, "total_frames": 9}
    assert torch.equal(*(long_of(base).generate_long_video(**long).latents for base in (whole, moved)))
    short = {"prompt": "a tide", "height": 32, "width": 64, "num_frames": 9, "num_inference_steps": 2, **call}
    noise = random(4, 1, 2 * 1 * 2, 48)
    assert torch.equal(*(base(**short, latents=noise).frames for base in (whole, moved)))


def test_prompts_and_images_are_encoded_where_the_caller_says() -> None:
    whole, moved = deaf_pipeline(), offloaded(deaf_pipeline())
    assert moved.vae.device.type == moved.text_encoder.device.type == "meta"
    for ours, theirs in zip(
        encode_prompts(moved.tokenizer, moved.text_encoder, ["a tide"], device="cpu"),
        encode_prompts(whole.tokenizer, whole.text_encoder, ["a tide"]),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    assert torch.equal(encode_image(moved.vae, PICTURE, device="cpu"), encode_image(whole.vae, PICTURE))


def test_an_image_is_encoded_within_the_budget_of_the_device_where_that_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vae = offloaded(deaf_pipeline()).vae
    per_cell = encoder_bytes_per_cell(vae.config, vae.dtype.itemsize, one_frame=True)
    monkeypatch.setattr(band_encoding, "DEFAULT_TILE_BYTES", {"cpu": 24 * per_cell, "cuda": 2**62})
    widths: list[int] = []
    vae.encoder.register_forward_pre_hook(lambda module, given: widths.append(given[0].shape[-1]))
    encode_image(vae, np.zeros((32, 1024, 3), np.uint8), device="cpu")
    assert len(widths) > 1
    assert max(widths) <= 24 * 32


def test_models_leave_the_device_after_conditioning_and_after_each_video_however_it_ends() -> None:
    """Leaving, diffusers hooks them anew."""
    base = model_offloaded(deaf_pipeline())
    seen: list[Any] = [list(base._all_hooks)]

    def note(*_: Any) -> None:
        if base._all_hooks != seen[-1]:
            seen.append(list(base._all_hooks))

    call = {**LONG_CALL, "total_frames": 9, "output_type": "latent", "callback_on_step_end": note}
    long_of(base).generate_long_video(**{**call, "prompt": ["a tide", "a boat"]})
    note()
    # At the start; while each of the two is denoised; after the last. Between them they left once more.
    assert len(seen) == 4

    def stopped(*_: Any) -> None:
        note()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        long_of(base).generate_long_video(**{**call, "callback_on_step_end": stopped})
    note()
    assert len(seen) == 6

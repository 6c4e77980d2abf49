"""A compiled transformer hears as the one that it was made of."""

from typing import Any

import pytest
import torch
from small_transformer import random
from tiny_pipelines import LONG_CALL, deaf_pipeline, hearing_pipeline

from ltx_ray.errors import ModelError, UserError
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.pipelines.autoregressive_pipeline import create_autoregressive_pipeline
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

HEARD: dict[str, Any] = {
    "audio_latents": random(3, 1, 90, 128),
    "audio_guidance_scale": 2.0,
    "output_type": "latent",
}
SHORT = {"prompt": "a tide", "height": 32, "width": 64, "num_frames": 9, "num_inference_steps": 2}


def compiled(pipeline: LTXVideoPipeline) -> LTXVideoPipeline:
    torch._dynamo.reset()
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")
    return pipeline


def test_a_compiled_transformer_hears_in_both_pipelines() -> None:
    whole, fast = hearing_pipeline(), compiled(hearing_pipeline())
    noise = random(4, 1, 2 * 1 * 2, 48)
    short = [base(**SHORT, **HEARD, guidance_scale=2.0, latents=noise).frames for base in (whole, fast)]
    assert torch.allclose(*short, atol=1e-5)
    call = {**LONG_CALL, **HEARD, "total_frames": 9}
    long = [create_autoregressive_pipeline(base, 33, 8).generate_long_video(**call) for base in (whole, fast)]
    assert torch.allclose(long[0].latents, long[1].latents, atol=1e-5)
    assert not fast.transformer._forward_hooks
    adapters = [AudioAdapter.of(base.transformer, AudioEncoder()) for base in (whole, fast)]
    assert list(adapters[0].state_dict()) == list(adapters[1].state_dict())


def test_a_compiled_transformer_that_cannot_hear_is_told() -> None:
    deaf = compiled(deaf_pipeline())
    with pytest.raises(UserError, match="call add_audio_cross_attention_to_transformer"):
        deaf(**SHORT, **HEARD)
    with pytest.raises(ModelError, match=r"added before torch\.compile"):
        add_audio_cross_attention_to_transformer(deaf.transformer)

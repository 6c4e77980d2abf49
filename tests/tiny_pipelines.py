"""Pipelines on the built-in checkpoint, with ears and without, for the tests."""

from typing import Any

import torch
from accelerate import cpu_offload
from small_transformer import open_gates

from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline

# A long video of two chunks, of the fewest cells.
LONG_CALL: dict[str, Any] = {
    "prompt": "a tide",
    "total_frames": 60,
    "height": 32,
    "width": 64,
    "num_inference_steps": 2,
    "guidance_scale": 1.0,
    "seed": 3,
}


def quiet(pipeline: Any) -> Any:
    """``pipeline``, without progress bars."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def deaf_pipeline() -> LTXVideoPipeline:
    """As it is loaded."""
    pipeline: LTXVideoPipeline = quiet(LTXVideoPipeline.from_pretrained("tiny"))
    return pipeline


def hearing_pipeline() -> LTXVideoPipeline:
    """With audio layers 8 to 12, whose gates are open."""
    pipeline = deaf_pipeline()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline.transformer = add_audio_cross_attention_to_transformer(pipeline.transformer)
    open_gates(pipeline.transformer)
    return pipeline


def offloaded(pipeline: LTXVideoPipeline) -> LTXVideoPipeline:
    """``pipeline``, offloaded in place as by ``enable_sequential_cpu_offload``, which has no CPU to go to.

    Between two forwards its weights are on the device meta.
    """
    for model in (pipeline.text_encoder, pipeline.transformer, pipeline.vae):
        cpu_offload(model, torch.device("cpu"), offload_buffers=len(model._parameters) > 0)
    return pipeline

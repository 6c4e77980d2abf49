"""LTX-Video's 2B model in its real configuration, with random weights."""

import torch
from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel
from small_vae import RELEASED
from transformers import T5Config, T5EncoderModel

from ltx_ray.models.build_tiny import SCHEDULER_CONFIG
from ltx_ray.models.tiny_text import make_tokenizer
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline


def real_transformer(num_layers: int = 28, dtype: torch.dtype = torch.bfloat16) -> LTXVideoTransformer3DModel:
    """32 heads x 64, 28 layers, 128 channels, captions of 4096: 1.92 G parameters."""
    with torch.device("meta"):
        transformer = LTXVideoTransformer3DModel(num_layers=num_layers)
    return _filled(transformer.to(dtype))


def real_vae(version: str = "0.9.0") -> AutoencoderKLLTXVideo:
    """A released decoder with an encoder of 0.9.0, 128 channels, in float32."""
    torch.manual_seed(0)
    return AutoencoderKLLTXVideo(**RELEASED[version]).eval().requires_grad_(False)


def real_pipeline(name: str = "", **_: object) -> LTXVideoPipeline:
    """The 2B model and its VAE; the text encoder has the width of T5-XXL, but one narrow layer."""
    tokenizer = make_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=4096, d_kv=64, d_ff=512, num_layers=1, num_heads=8, pad_token_id=0
    )
    pipeline = LTXVideoPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER_CONFIG),
        vae=real_vae(),
        text_encoder=T5EncoderModel(config).to(torch.bfloat16).eval(),
        tokenizer=tokenizer,
        transformer=real_transformer(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _filled(model: LTXVideoTransformer3DModel) -> LTXVideoTransformer3DModel:
    """Random weights that keep variance; torch's own initialisation would take minutes."""
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name:
            parameter.fill_(1.0)
        else:
            bound = (3 / parameter.shape[-1]) ** 0.5
            block = torch.empty(min(parameter.numel(), 2**20), dtype=parameter.dtype)
            block.uniform_(-bound, bound, generator=draw)
            # One block over and over: as random as these tests want it.
            repeated = block.repeat(-(-parameter.numel() // block.numel()))[: parameter.numel()]
            parameter.copy_(repeated.view(parameter.shape))
    return model

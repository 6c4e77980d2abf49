"""The transformer of the built-in checkpoint: its config and the weights it starts from."""

import math

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import nn

from ltx_ray.models.tiny_text import TEXT_WIDTH
from ltx_ray.models.tiny_vae import LATENT_CHANNELS

HEADS, HEAD_WIDTH = 5, 32

TRANSFORMER_CONFIG = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_attention_heads": HEADS,
    "attention_head_dim": HEAD_WIDTH,
    "cross_attention_dim": HEADS * HEAD_WIDTH,
    # The layers 8-12, to which audio is attached by default, have to exist.
    "num_layers": 13,
    "caption_channels": TEXT_WIDTH,
    "patch_size": 1,
    "patch_size_t": 1,
}

# Deviation of the predicted velocity. At 1, guidance of 3 would still leave latents several times too
# large after 30 steps; much smaller, and every prompt would decode to the same picture.
_VELOCITY_STD = 0.6


def make_transformer(seed: int) -> LTXVideoTransformer3DModel:
    """The transformer in float32, a function of ``seed`` alone.

    Every linear layer keeps variance, the ones that write to the residual stream share it between all
    layers, and the gates are open: so that prompt, seed and step all show in what is sampled.
    """
    transformer = LTXVideoTransformer3DModel(**TRANSFORMER_CONFIG)
    draw = torch.Generator().manual_seed(seed)
    writers = 3 * TRANSFORMER_CONFIG["num_layers"]
    with torch.no_grad():
        for name, module in transformer.named_modules():
            if isinstance(module, nn.Linear):
                _init_linear(module, draw)
                if name.endswith(("to_out.0", "ff.net.2")):
                    module.weight.mul_(math.sqrt(4 / writers))
        for name, parameter in transformer.named_parameters():
            if name.endswith("scale_shift_table"):
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / math.sqrt(parameter.shape[1]))
                if len(parameter) == 6:
                    parameter[[2, 5]] += 1  # gates of attention and feed-forward
        transformer.time_embed.linear.weight.mul_(0.3)
        transformer.proj_out.weight.mul_(_VELOCITY_STD)
    return transformer


def _init_linear(linear: nn.Linear, draw: torch.Generator) -> None:
    linear.weight.copy_(torch.randn(linear.weight.shape, generator=draw) / math.sqrt(linear.in_features))
    linear.bias.zero_()

"""The transformer of the built-in checkpoint: its config and the weights it starts from."""

import math

import torch
from diffusers import LTXVideoTransformer3DModel
from torch import nn

from ltx_ray.models.tiny_text import TEXT_WIDTH
from ltx_ray.models.tiny_vae import LATENT_CHANNELS

HEADS, HEAD_WIDTH = 4, 32

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


def make_transformer(seed: int) -> LTXVideoTransformer3DModel:
    """The untrained transformer in float32, a function of ``seed`` alone.

    Linear layers keep variance, those that write to the residual stream share it between all layers, and the
    first prediction is zero.
    """
    transformer = LTXVideoTransformer3DModel(**TRANSFORMER_CONFIG)
    draw = torch.Generator().manual_seed(seed)
    writers = 3 * TRANSFORMER_CONFIG["num_layers"]
    with torch.no_grad():
        for name, module in transformer.named_modules():
            if isinstance(module, nn.Linear):
                std = module.in_features**-0.5
                if name.endswith(("to_out.0", "ff.net.2")):
                    std /= math.sqrt(writers)
                module.weight.copy_(std * torch.randn(module.weight.shape, generator=draw))
                module.bias.zero_()
        for name, parameter in transformer.named_parameters():
            if name.endswith("scale_shift_table"):
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / math.sqrt(parameter.shape[1]))
                if len(parameter) == 6:
                    parameter[[2, 5]] += 1  # gates of attention and feed-forward
        # What a timestep adds to shifts, scales and gates.
        transformer.time_embed.linear.weight.mul_(0.1)
        transformer.proj_out.weight.zero_()
    return transformer

"""The VAE of the built-in checkpoint: its config and the weights that its training starts from.

The real ratios (8 frames, 32 x 32 pixels a latent) at a hundredth of the weights. Upsampling kernels start as
nearest interpolation (ICNR, arXiv:1707.02937), so that training has no block edges to take away first.
"""

import math

import torch
from diffusers import AutoencoderKLLTXVideo
from torch import nn

LATENT_CHANNELS = 48

VAE_CONFIG = {
    "latent_channels": LATENT_CHANNELS,
    "block_out_channels": (32, 64, 128, 128),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "layers_per_block": (0, 0, 1, 1),
    "spatio_temporal_scaling": (True,) * 3,
    "downsample_type": ("spatiotemporal",) * 3,
    "decoder_block_out_channels": (32, 64, 96),
    "decoder_layers_per_block": (1, 1, 1, 1),
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "upsample_residual": (False,) * 3,
    "upsample_factor": (1,) * 3,
    "patch_size": 4,
    "patch_size_t": 1,
    "timestep_conditioning": False,
    "encoder_causal": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}

# Part of a kernel's energy that starts in its middle: what is where stays there.
_CENTRE = 0.85
# Deviation of the biases. Every pixel is normalised: only beside a bias can channels say how bright it is.
_BIAS = 0.5
# The second convolution of a residual block starts small, so that depth does not drown the input; so do a
# downsampler's, which adds to a mean, and the last one.
_RESIDUAL, _DOWNSAMPLER, _LAST = 0.25, 0.5, 0.3


def make_vae(seed: int) -> AutoencoderKLLTXVideo:
    """The untrained VAE in float32, a function of ``seed`` alone."""
    vae = AutoencoderKLLTXVideo(**VAE_CONFIG)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv3d):
                _init(module, 0.0 if name.endswith(("conv2.conv", "conv_out.conv")) else _BIAS, draw)
        for module in vae.modules():
            match type(module).__name__:
                case "LTXVideoResnetBlock3d":
                    module.conv2.conv.weight.mul_(_RESIDUAL)
                case "LTXVideoDownsampler3d":
                    module.conv.conv.weight.mul_(_DOWNSAMPLER)
                case "LTXVideoUpsampler3d":
                    _repeat(module.conv.conv, math.prod(module.stride))
        _repeat(vae.decoder.conv_out.conv, vae.decoder.patch_size**2)
        vae.decoder.conv_out.conv.weight.mul_(_LAST)
    return vae


def _init(conv: nn.Conv3d, bias: float, draw: torch.Generator) -> None:
    """Variance-keeping weights, most of it in the middle of the kernel."""
    weight = conv.weight
    assert conv.bias is not None
    weight.copy_(torch.randn(weight.shape, generator=draw) / math.sqrt(weight[0].numel()))
    if weight.shape[2] == 3:
        weight.mul_(math.sqrt(1 - _CENTRE))
        centre = torch.randn(weight.shape[:2], generator=draw) / math.sqrt(weight.shape[1])
        weight[:, :, 1, 1, 1] += math.sqrt(_CENTRE) * centre
    conv.bias.copy_(bias * torch.randn(conv.bias.shape, generator=draw))


def _repeat(conv: nn.Conv3d, copies: int) -> None:
    """Give the ``copies`` outputs that a pixel shuffle puts side by side the same kernel."""
    for values in (conv.weight, conv.bias):
        assert values is not None
        values.copy_(values[::copies].repeat_interleave(copies, dim=0)[: conv.out_channels])

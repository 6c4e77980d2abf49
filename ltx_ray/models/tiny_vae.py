"""The VAE of the built-in checkpoint: its config and the weights it starts from.

The real ratios (8 frames, 32 x 32 pixels a latent) at a thousandth of the weights. The start is made so
that latents drawn from a normal distribution decode to smooth, moving blobs of colour: every decoder
kernel is a random mix of channels times a binomial blur, and every upsampling kernel interpolates
linearly (ICNR, arXiv:1707.02937, with linear instead of nearest interpolation), so that no block
edges show before training takes them away.
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
    "decoder_block_out_channels": (24, 48, 64),
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

# Mean of silu(x)^2 for a standard normal x: what a convolution sees behind a pixel norm.
_SILU_SQUARE = 0.356
# Length of a colour's row in the last convolution: vivid, and about one value in thirty is clipped.
_COLOUR_GAIN = 0.65
# What the decoder's kernels keep of a cell and take from its neighbours, on each axis.
_BLUR = torch.tensor([0.15, 0.7, 0.15])
# The second convolution of a residual block starts small, so that depth does not drown the input.
_RESIDUAL_SCALE = 0.25
_LOG_VARIANCE = -4.6  # of the posterior: a standard deviation of 0.1


def make_vae(seed: int) -> AutoencoderKLLTXVideo:
    """The VAE in float32, a function of ``seed`` alone."""
    vae = AutoencoderKLLTXVideo(**VAE_CONFIG)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv3d):
                _init_convolution(module, draw, smooth=name.startswith("decoder."))
        for module in vae.modules():
            if type(module).__name__ == "LTXVideoResnetBlock3d":
                module.conv2.conv.weight.mul_(_RESIDUAL_SCALE)
            elif type(module).__name__ == "LTXVideoUpsampler3d":
                _interpolate(module.conv.conv, module.stride, draw)
        _init_latents(vae, draw)
        _init_pixels(vae, draw)
    return vae


def _init_convolution(conv: nn.Conv3d, draw: torch.Generator, smooth: bool) -> None:
    """Variance-keeping weights; ``smooth`` ones are a mix of channels times a blur in t, y and x."""
    weight = conv.weight
    assert conv.bias is not None
    conv.bias.zero_()
    if smooth and weight.shape[2] == 3:
        blur = _BLUR[:, None, None] * _BLUR[:, None] * _BLUR
        weight.copy_(_mix(weight.shape[0], weight.shape[1], draw) * blur)
        return
    weight.copy_(torch.randn(weight.shape, generator=draw) / math.sqrt(weight[0].numel()))


def _mix(rows: int, columns: int, draw: torch.Generator) -> torch.Tensor:
    """A random matrix that keeps variance, as weights [rows, columns, 1, 1, 1].

    Its rows sum to zero: what silu leaves positive on average would else become one tint of all videos.
    """
    mix = torch.randn(rows, columns, generator=draw) / math.sqrt(columns)
    return (mix - mix.mean(dim=1, keepdim=True))[:, :, None, None, None]


def _interpolate(conv: nn.Conv3d, stride: tuple[int, int, int], draw: torch.Generator) -> None:
    """Make a convolution before a pixel shuffle by ``stride`` (t, y, x) an interpolation of a channel mix."""
    taps = torch.einsum("at,by,cx->abctyx", *(_linear_taps(factor) for factor in stride)).flatten(0, 2)
    mix = _mix(conv.out_channels // len(taps), conv.in_channels, draw)
    conv.weight.copy_((mix[:, None] * taps[None, :, None]).flatten(0, 1))


def _linear_taps(factor: int) -> torch.Tensor:
    """Kernels [factor, 3] that interpolate linearly at the centres of ``factor`` equal parts of a cell."""
    offset = (torch.arange(factor) + 0.5) / factor - 0.5
    return torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], dim=1)


def _init_latents(vae: AutoencoderKLLTXVideo, draw: torch.Generator) -> None:
    """Give the latents means and deviations of their own, and the VAE's statistics to match.

    So normalised latents are about standard normal, as those of the trained models are.
    """
    mean = 0.5 * torch.randn(LATENT_CHANNELS, generator=draw)
    std = 0.5 + torch.rand(LATENT_CHANNELS, generator=draw)
    out = vae.encoder.conv_out.conv
    out.weight[:-1].mul_(std[:, None, None, None, None] / math.sqrt(_SILU_SQUARE))
    out.bias[:-1].copy_(mean)
    out.weight[-1].zero_()
    out.bias[-1].fill_(_LOG_VARIANCE)
    vae.latents_mean.copy_(mean)
    vae.latents_std.copy_(std)
    first = vae.decoder.conv_in.conv
    first.bias.copy_(-(first.weight.sum(dim=(2, 3, 4)) @ mean))  # else the mean would tint all videos


def _init_pixels(vae: AutoencoderKLLTXVideo, draw: torch.Generator) -> None:
    """The last convolution: colours around grey, interpolated inside each patch of pixels."""
    conv, patch = vae.decoder.conv_out.conv, vae.decoder.patch_size
    mix = _mix(3, conv.in_channels, draw)
    mix = mix / mix.square().sum(dim=1, keepdim=True).sqrt() * _COLOUR_GAIN
    taps = _linear_taps(patch)
    # The decoder unpatches channels in the order colour, x, y: the x offset is the outer one.
    blur = torch.einsum("at,cx,by->cbatyx", _BLUR[None], taps, taps).flatten(0, 2)
    conv.weight.copy_((mix[:, None] * blur[None, :, None]).flatten(0, 1))

"""Small random VAEs with LTX's real structure, ratios (32 x 32 x 8) and options, for the decoding tests."""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo

# Decoders of the released checkpoints: 0.9.0 and 0.9.1 as in diffusers' scripts/convert_ltx_to_diffusers.py;
# 0.9.5 (and 0.9.7, 0.9.8) as in the vae/config.json of their repositories.
RELEASED: Mapping[str, Mapping[str, Any]] = {
    "0.9.0": {
        "decoder_block_out_channels": (128, 256, 512, 512),
        "decoder_layers_per_block": (4, 3, 3, 3, 4),
        "decoder_spatio_temporal_scaling": (True, True, True, False),
        "decoder_inject_noise": (False, False, False, False, False),
        "upsample_residual": (False, False, False, False),
        "upsample_factor": (1, 1, 1, 1),
        "timestep_conditioning": False,
    },
    "0.9.1": {
        "decoder_block_out_channels": (256, 512, 1024),
        "decoder_layers_per_block": (5, 6, 7, 8),
        "decoder_spatio_temporal_scaling": (True, True, True),
        "decoder_inject_noise": (False, True, True, True),
        "upsample_residual": (True, True, True),
        "upsample_factor": (2, 2, 2),
        "timestep_conditioning": True,
    },
    "0.9.5": {
        "decoder_block_out_channels": (256, 512, 1024),
        "decoder_layers_per_block": (5, 5, 5, 5),
        "decoder_spatio_temporal_scaling": (True, True, True),
        "decoder_inject_noise": (False, False, False, False),
        "upsample_residual": (True, True, True),
        "upsample_factor": (2, 2, 2),
        "timestep_conditioning": True,
    },
}

# Encoders of the released checkpoints, from the same places; 0.9.1 has that of 0.9.0.
RELEASED_ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "0.9.0": {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("LTXVideoDownBlock3D",) * 4,
        "layers_per_block": (4, 3, 3, 3, 4),
        "spatio_temporal_scaling": (True, True, True, False),
        "downsample_type": ("conv",) * 4,
    },
    "0.9.5": {
        "block_out_channels": (128, 256, 512, 1024, 2048),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
        "layers_per_block": (4, 6, 6, 2, 2),
        "spatio_temporal_scaling": (True, True, True, True),
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
}

# The same kinds of encoder, narrow and shallow.
SMALL_ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "0.9.0": {
        **RELEASED_ENCODERS["0.9.0"],
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": (1, 1, 1, 1, 1),
    },
    "0.9.5": {
        **RELEASED_ENCODERS["0.9.5"],
        "block_out_channels": (8, 16, 16, 32, 32),
        "layers_per_block": (1, 1, 1, 1, 1),
    },
}

# The same kinds of decoder, narrow and shallow: exact halos of 10, 7 and 7 cells.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "0.9.0": {
        **RELEASED["0.9.0"],
        "decoder_block_out_channels": (8, 16, 16, 16),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
    },
    "0.9.1": {
        **RELEASED["0.9.1"],
        "decoder_block_out_channels": (16, 32, 64),
        "decoder_layers_per_block": (1, 1, 1, 1),
    },
    "0.9.5": {
        **RELEASED["0.9.5"],
        "decoder_block_out_channels": (16, 32, 64),
        "decoder_layers_per_block": (1, 1, 1, 1),
    },
}


def small_vae(version: str, **changes: Any) -> AutoencoderKLLTXVideo:
    """A VAE of 8 latent channels with random weights, latent statistics and noise scales of seed 0."""
    torch.manual_seed(0)
    options = {
        "latent_channels": 8,
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (0, 0, 0, 0, 0),
        "spatio_temporal_scaling": (True, True, True, False),
        **SMALL[version],
        **changes,
    }
    vae = AutoencoderKLLTXVideo(**options).eval().requires_grad_(False)
    channels = vae.config.latent_channels
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, channels))
    vae.latents_std.copy_(torch.linspace(0.5, 1.5, channels))
    for name, parameter in vae.named_parameters():
        if "per_channel_scale" in name:
            parameter.normal_(std=0.5)
    return vae

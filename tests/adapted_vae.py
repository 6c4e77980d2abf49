"""Small VAEs with an adaptive decoder, clips for them, and how they are decoded, for the tests."""

from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo
from small_vae import small_vae
from torch import Tensor

from ltx_ray.models.autoencoders.adaptive_vae_decoder import AdaptiveVAEDecoder, create_adaptive_decoder

# Latents, rows, columns: room for several tiles and slabs at the default halo.
CLIP = (10, 1, 16)
# One frame, wide enough for two tiles with more context than any decoder of SMALL can use.
WIDE = (1, 2, 48)
EXACT_OVERLAP = 1408  # pixels: 11 cells of context


def latents_of(size: tuple[int, int, int], samples: int = 1, channels: int = 8) -> Tensor:
    return torch.randn(samples, channels, *size, generator=torch.Generator().manual_seed(1))


def timestep_for(vae: AutoencoderKLLTXVideo) -> Tensor | None:
    return torch.tensor([0.05]) if vae.config.timestep_conditioning else None


def decode(vae: AutoencoderKLLTXVideo, latents: Tensor) -> Tensor:
    """As a pipeline decodes."""
    with torch.inference_mode():
        pixels: Tensor = vae.decode(latents, timestep_for(vae), return_dict=False)[0]
    return pixels


def adapted(version: str, share: float | None = None, **options: Any) -> tuple[Any, AdaptiveVAEDecoder]:
    """A small VAE with an adaptive decoder, whose budget is a share of what CLIP needs whole."""
    vae = small_vae(version)
    decoder = create_adaptive_decoder(vae, **options)
    vae.decoder = decoder
    if share:
        decoder.memory_budget = int(decoder.plan(latents_of(CLIP)).whole_bytes * share)
    return vae, decoder


def error_of(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())

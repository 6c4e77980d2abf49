"""The estimate of a decoder's memory holds against what real decodes allocate."""

import pytest
import torch
from allocations import Allocations
from diffusers import AutoencoderKLLTXVideo
from small_vae import RELEASED, SMALL, small_vae

from ltx_ray.decoding.budget import decoder_bytes_per_cell


def _peak_per_cell(vae: AutoencoderKLLTXVideo, device: str, latents: int, cells: int) -> float:
    shape = (1, vae.config.latent_channels, latents, cells, cells)
    block = torch.zeros(shape, device=device, dtype=vae.dtype)
    timestep = None
    if vae.config.timestep_conditioning:
        timestep = torch.zeros(1, device=device, dtype=vae.dtype)
    with torch.inference_mode(), Allocations() as allocations:
        vae.decode(block, timestep, return_dict=False)
    return allocations.peak / (latents * cells * cells)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("version", RELEASED)
def test_estimates_for_the_released_decoders_hold(version: str, dtype: torch.dtype) -> None:
    with torch.device("meta"):  # allocates and computes nothing, but has every tensor's true size
        vae = small_vae(version, **RELEASED[version], latent_channels=128).to(dtype)
    estimate = decoder_bytes_per_cell(vae.config, dtype.itemsize)
    assert estimate == pytest.approx(_peak_per_cell(vae, "meta", latents=16, cells=12), rel=0.1)


@pytest.mark.parametrize("version", SMALL)
def test_estimates_hold_for_a_decode_that_computes(version: str) -> None:
    vae = small_vae(version)
    peak = _peak_per_cell(vae, "cpu", latents=9, cells=3)
    assert decoder_bytes_per_cell(vae.config, 4) == pytest.approx(peak, rel=0.2)

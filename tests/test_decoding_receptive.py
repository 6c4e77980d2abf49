"""The exact halo is the reach of a latent: nothing beyond it, something right at it."""

import pytest
import torch
from small_vae import RELEASED, SMALL, small_vae

from ltx_ray.decoding.receptive import exact_halo

FIXED = {"latent_channels": 128, "out_channels": 3, "patch_size": 4, "decoder_causal": False}


@pytest.mark.parametrize(("version", "halo"), [("0.9.0", 24), ("0.9.1", 31), ("0.9.5", 22)])
def test_halos_of_the_released_decoders(version: str, halo: int) -> None:
    assert exact_halo({**FIXED, **RELEASED[version]}) == (halo, halo)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("version", SMALL)
def test_gradients_reach_exactly_as_far_as_computed(version: str, causal: bool) -> None:
    vae = small_vae(version, decoder_causal=causal).double()
    cells, latents = exact_halo(vae.config)
    assert _reach(vae, axis=4, length=2 * cells + 3) == cells
    assert _reach(vae, axis=2, length=2 * latents + 3) == latents


def _reach(vae, axis: int, length: int) -> int:
    """Largest distance along ``axis`` of a latent that moves a pixel (or frame) of the middle latent."""
    shape = [1, 8, 1, 1, 1]
    shape[axis] = length
    latents = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    timestep = torch.tensor([0.05], dtype=torch.float64) if vae.config.timestep_conditioning else None
    pixels = vae.decode(latents, timestep, return_dict=False)[0]
    middle = length // 2
    covered = (8 * middle - 7, 8 * middle) if axis == 2 else (32 * middle, 32 * middle + 31)
    reach = 0
    for pixel in covered:  # the outermost ones reach farthest
        (gradient,) = torch.autograd.grad(
            pixels.select(axis, pixel).square().sum(), latents, retain_graph=True
        )
        touched = gradient.abs().movedim(axis, 0).flatten(1).sum(1).nonzero().flatten()
        reach = max(reach, middle - int(touched.min()), int(touched.max()) - middle)
    return reach

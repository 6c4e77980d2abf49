"""What an adaptive decoder is told it does, and says; what cannot be done it tells with what to do."""

import logging

import pytest
import torch
from adapted_vae import CLIP, adapted, decode, error_of, latents_of
from diffusers import AutoencoderKL
from small_vae import small_vae

from ltx_ray.errors import ConfigError, ModelError, UserError
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder


def test_the_plan_is_told_in_the_log_and_on_the_decoder(caplog: pytest.LogCaptureFixture) -> None:
    vae, decoder = adapted("0.9.0", share=0.66)
    with caplog.at_level(logging.INFO, logger="ltx_ray"):
        decode(vae, latents_of((1, 2, 3)))
        decode(vae, latents_of(CLIP))
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("1 frames of 96x64 pixels decoded whole: it fits memory_budget")
    assert caplog.messages[1] == str(decoder.last_plan)
    assert "73 frames of 512x32 pixels decoded in" in caplog.messages[1]
    assert "halo 4 cells, ramp 64 pixels: the whole is more than memory_budget" in caplog.messages[1]


def test_tiling_can_be_turned_off_and_on() -> None:
    vae, decoder = adapted("0.9.0", share=0.66)
    latents = latents_of(CLIP)
    for enabled in (True, False, True):
        decoder.enable_tiling(tile_size=None, overlap=None) if enabled else decoder.disable_tiling()
        assert decoder.use_tiling == decoder.plan(latents).tiled == enabled
    decoder.disable_tiling()
    assert torch.equal(decode(vae, latents), decode(small_vae("0.9.0"), latents))
    assert not create_adaptive_decoder(vae, use_tiling=False).use_tiling


@pytest.mark.parametrize("budget_cells", [1000, 8])
def test_a_coarse_low_band_is_the_low_band_of_every_tile(budget_cells: int) -> None:
    encoder = HierarchicalVAEEncoder(latent_channels=8, compression_levels=2)
    vae, decoder = adapted("0.9.0", hierarchical_encoder=encoder)
    latents = latents_of((2, 6, 11))
    decoder.enable_tiling(tile_size=256, overlap=0)
    decoder.memory_budget = budget_cells * 196_608
    plain = decode(vae, latents)
    # Rows and columns of cells in squares of four, the last ones continued.
    index_y, index_x = [0, 1, 2, 3, 4, 5, 5, 5], [*range(11), 10]
    squares = latents[..., index_y, :][..., index_x].unflatten(-1, (3, 4)).unflatten(-3, (2, 4))
    coarse = decode(vae, squares.mean(dim=(-3, -1)))
    assert decoder.last_plan is not None
    assert decoder.last_plan.tiled == (budget_cells < 12)  # it keeps within the budget, too
    decoder.coarse_low_band = True
    bands, before = encoder.decompose(decode(vae, latents)), encoder.decompose(plain)
    assert error_of(bands.low / 4, coarse[..., :48, :88]) < 1e-5
    assert all(error_of(a, b) < 1e-5 for a, b in zip(bands.high, before.high, strict=True))
    assert error_of(bands.low, before.low) > 0.1


@pytest.mark.parametrize("encoder", [None, torch.nn.Identity(), HierarchicalVAEEncoder(use_wavelet=False)])
def test_a_coarse_low_band_needs_wavelets(encoder: torch.nn.Module | None) -> None:
    decoder = create_adaptive_decoder(small_vae("0.9.0"), hierarchical_encoder=encoder)
    with pytest.raises(ConfigError, match="coarse_low_band needs the wavelets of a HierarchicalVAEEncoder"):
        decoder.coarse_low_band = True
    decoder.coarse_low_band = False


def test_what_cannot_be_decoded_says_what_to_do() -> None:
    vae, decoder = adapted("0.9.5")
    with pytest.raises(ConfigError, match="memory_budget must be a positive number of bytes or None, got 0"):
        decoder.memory_budget = 0
    decoder.memory_budget = 2**20
    for tile_size in (None, 512):
        decoder.enable_tiling(tile_size, 64)
        with pytest.raises(
            ConfigError, match=r"memory_budget must hold one tile .* got 1048576 bytes: raise it"
        ):
            decode(vae, latents_of(CLIP))
    with pytest.raises(UserError, match="wants one timestep, or one for each of 1 samples, got none"):
        vae.decode(latents_of((1, 1, 1)))
    with pytest.raises(UserError, match=r"each of 2 samples, got a tensor \[3\]"):
        vae.decode(latents_of((1, 1, 1), samples=2), torch.zeros(3))


def test_only_an_ltx_vae_without_offloading_hooks_is_accepted() -> None:
    with pytest.raises(
        ModelError, match=r"must be an AutoencoderKLLTXVideo of diffusers .* got AutoencoderKL:"
    ):
        create_adaptive_decoder(AutoencoderKL(block_out_channels=(32,), norm_num_groups=32))
    vae = small_vae("0.9.0")
    vae.decoder = torch.nn.Identity()
    with pytest.raises(ModelError, match="got AutoencoderKLLTXVideo with a decoder Identity"):
        create_adaptive_decoder(vae)
    hooked = small_vae("0.9.1")
    hooked.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")
    with pytest.raises(ModelError, match="must have no offloading hooks yet"):
        create_adaptive_decoder(hooked)

"""The pixels of the adaptive decoder are the stock one's: to the bit where whole, and by overlap in tiles."""

import pytest
import torch
from adapted_vae import CLIP, EXACT_OVERLAP, WIDE, adapted, decode, error_of, latents_of
from diffusers import AutoencoderKLLTXVideo
from small_vae import RELEASED, SMALL, small_vae
from torch import Tensor

from ltx_ray.decoding.tile import DecodeSettings, denormalize
from ltx_ray.decoding.whole import decode_shot
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.planning.geometry import Ratios


@pytest.mark.parametrize("version", SMALL)
def test_what_fits_is_decoded_as_by_diffusers_to_the_bit(version: str) -> None:
    latents, stock_vae, (vae, decoder) = latents_of((3, 3, 4)), small_vae(version), adapted(version)
    torch.manual_seed(5)
    stock = decode(stock_vae, latents)
    torch.manual_seed(5)
    assert torch.equal(decode(vae, latents), stock)
    assert decoder.last_plan is not None
    assert not decoder.last_plan.tiled


@pytest.mark.parametrize("version", SMALL)
def test_tiles_and_slabs_have_the_pixels_of_the_renderer(version: str) -> None:
    vae, decoder = adapted(version, share=0.66)
    decoder.noise_seed = 7
    normal = latents_of(CLIP)
    tiled = decode(vae, denormalize(normal, vae))
    plan = decoder.last_plan
    assert plan is not None
    assert plan.grid[0] > 1
    assert plan.grid[2] > 1
    wanted = DecodeSettings(
        decode_timestep=0.05,
        decode_noise_scale=0.0,
        seed=7,
        rows=CLIP[1],
        columns=CLIP[2],
        device="cpu",
        ratios=Ratios(),
    )
    assert error_of(tiled[0], decode_shot(small_vae(version), normal, plan.slabs, wanted)) < 1e-5


@pytest.mark.parametrize("version", SMALL)
def test_tiles_with_enough_overlap_equal_the_whole_decode(version: str) -> None:
    vae, decoder = adapted(version)
    decoder.noise_seed = 3
    latents = latents_of(WIDE)
    whole = decode(vae, latents)
    decoder.memory_budget = decoder.plan(latents).whole_bytes * 47 // 48
    decoder.enable_tiling(tile_size=None, overlap=EXACT_OVERLAP)
    tiled = decode(vae, latents)
    assert decoder.last_plan is not None
    assert decoder.last_plan.grid == (1, 1, 2)
    assert error_of(tiled, whole) < 1e-4
    assert whole.std() > 0.1


def test_more_overlap_means_less_error() -> None:
    vae, decoder = adapted("0.9.0")
    latents = latents_of((1, 2, 36))
    whole = decode(vae, latents)
    errors = []
    for overlap in (0, 256, 512):
        decoder.enable_tiling(tile_size=36 * 32 - 32, overlap=overlap)
        errors.append(error_of(decode(vae, latents), whole))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


@pytest.mark.parametrize("version", SMALL)
def test_samples_of_a_batch_are_decoded_as_they_are_alone(version: str) -> None:
    vae, decoder = adapted(version, share=0.66)
    decoder.noise_seed = 3
    pair = latents_of(CLIP, samples=2)
    timesteps = torch.tensor([0.05, 0.5]) if vae.config.timestep_conditioning else None
    with torch.inference_mode():
        for latents in (pair, pair[:, :, :3]):  # tiled, and whole
            both = vae.decode(latents, timesteps, return_dict=False)[0]
            for index in range(2):
                timestep = None if timesteps is None else timesteps[index : index + 1]
                alone = vae.decode(latents[index : index + 1], timestep, return_dict=False)[0]
                assert torch.equal(both[index : index + 1], alone)
            # One timestep is for all of them.
            if timesteps is not None:
                same = vae.decode(latents, timesteps[:1], return_dict=False)[0]
                assert torch.equal(same[:1], both[:1])
                assert not torch.equal(same[1:], both[1:])


def test_noise_inside_the_decoder_follows_the_seed_and_torchs_generator() -> None:
    vae, decoder = adapted("0.9.1", share=0.66)
    latents = latents_of(CLIP)
    torch.manual_seed(1)
    first, second = decode(vae, latents), decode(vae, latents)
    torch.manual_seed(1)
    assert torch.equal(decode(vae, latents), first)
    assert not torch.equal(first, second)
    decoder.noise_seed = 4
    state = torch.get_rng_state()
    fixed = decode(vae, latents)
    assert torch.equal(decode(vae, latents), fixed)
    assert torch.equal(torch.get_rng_state(), state)
    decoder.noise_seed = 5
    assert not torch.equal(decode(vae, latents), fixed)


def test_a_decoder_without_noise_leaves_torchs_generator_alone() -> None:
    vae, _ = adapted("0.9.5", share=0.66)
    state = torch.get_rng_state()
    decode(vae, latents_of(CLIP))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("slicing", [False, True])
def test_diffusers_own_tiling_and_slicing_still_do_what_they_did(tiled: bool, slicing: bool) -> None:
    latents = latents_of((3, 3, 5), samples=2)
    pixels = []
    for vae in (small_vae("0.9.0"), adapted("0.9.0")[0]):
        if slicing:
            vae.enable_slicing()
        if tiled:
            vae.enable_tiling(64, 64, 16, 32, 32, 8)
            vae.use_framewise_decoding = True
        pixels.append(decode(vae, latents))
    assert error_of(*pixels) < 1e-5


def test_gradients_are_those_of_the_stock_decoder_whole_tiled_and_checkpointed() -> None:
    latents = latents_of(WIDE)

    def gradient(vae: AutoencoderKLLTXVideo) -> Tensor:
        vae.decoder.conv_in.conv.weight.requires_grad_(True)
        vae.zero_grad()
        vae.decode(latents, torch.tensor([0.05]), return_dict=False)[0].square().mean().backward()
        gradient = vae.decoder.conv_in.conv.weight.grad
        assert gradient is not None
        return gradient.clone()

    wanted = gradient(small_vae("0.9.5"))
    vae, decoder = adapted("0.9.5")
    assert torch.equal(gradient(vae), wanted)
    decoder.memory_budget = decoder.plan(latents).whole_bytes * 47 // 48
    decoder.enable_tiling(tile_size=None, overlap=EXACT_OVERLAP)
    assert error_of(gradient(vae), wanted) < 1e-4 * float(wanted.abs().max())
    assert decoder.last_plan is not None
    assert decoder.last_plan.tiled
    vae.enable_gradient_checkpointing()
    assert decoder.gradient_checkpointing
    assert torch.allclose(gradient(vae), wanted, atol=1e-6)
    assert decoder.last_plan.why == "gradients are checkpointed"
    # Without gradients there is nothing to checkpoint.
    decode(vae, latents)
    assert decoder.last_plan.tiled


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.9.0", "0.9.5"])
def test_the_released_decoders_decode_alike_whole_and_in_tiles(version: str) -> None:
    torch.manual_seed(0)
    vae = small_vae(version, **RELEASED[version], latent_channels=128)
    vae.decoder = decoder = create_adaptive_decoder(vae)
    latents = latents_of((1, 2, 100), channels=128)
    whole = decode(vae, latents)
    decoder.memory_budget = decoder.plan(latents).whole_bytes * 99 // 100
    errors = []
    for overlap in (256, 1024, 3072):
        decoder.enable_tiling(tile_size=None, overlap=overlap)
        errors.append(error_of(decode(vae, latents), whole))
        assert decoder.last_plan is not None
        assert decoder.last_plan.tiled
    assert errors[0] > 2 * errors[1]
    assert errors[2] < 1e-4

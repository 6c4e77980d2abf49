"""The adaptive decoder is the stock one in all but memory: same pixels, same checkpoint, same calls."""

import copy
import gc
import io
import logging
import pickle
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLLTXVideo, LTXPipeline
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoDecoder3d
from small_vae import RELEASED, SMALL, small_vae
from torch import Tensor

from ltx_ray.checkpoints import tiny_path
from ltx_ray.decoding.tile import DecodeSettings
from ltx_ray.decoding.whole import decode_shot
from ltx_ray.errors import ConfigError, ModelError, UserError
from ltx_ray.models.autoencoders.adaptive_vae_decoder import AdaptiveVAEDecoder, create_adaptive_decoder
from ltx_ray.models.autoencoders.decode_plan import Tiling
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder
from ltx_ray.models.conditioning import denormalize
from ltx_ray.planning.geometry import Ratios

# Latents, rows, columns: room for several tiles and slabs at the default halo.
CLIP = (10, 1, 16)
# One frame, wide enough for two tiles with more context than any decoder of SMALL can use.
WIDE = (1, 2, 48)
EXACT_OVERLAP = 1408  # pixels: 11 cells of context


def _latents(size: tuple[int, int, int], samples: int = 1, channels: int = 8) -> Tensor:
    return torch.randn(samples, channels, *size, generator=torch.Generator().manual_seed(1))


def _timestep(vae: AutoencoderKLLTXVideo) -> Tensor | None:
    return torch.tensor([0.05]) if vae.config.timestep_conditioning else None


def _decode(vae: AutoencoderKLLTXVideo, latents: Tensor) -> Tensor:
    """As a pipeline decodes."""
    with torch.inference_mode():
        pixels: Tensor = vae.decode(latents, _timestep(vae), return_dict=False)[0]
    return pixels


def _adapted(version: str, share: float | None = None, **options: Any) -> tuple[Any, AdaptiveVAEDecoder]:
    """A small VAE with an adaptive decoder, whose budget is a share of what CLIP needs whole."""
    vae = small_vae(version)
    decoder = create_adaptive_decoder(vae, **options)
    vae.decoder = decoder
    if share:
        decoder.memory_budget = int(decoder.plan(_latents(CLIP)).whole_bytes * share)
    return vae, decoder


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("version", SMALL)
def test_what_fits_is_decoded_as_by_diffusers_to_the_bit(version: str) -> None:
    latents, stock_vae, (vae, decoder) = _latents((3, 3, 4)), small_vae(version), _adapted(version)
    torch.manual_seed(5)
    stock = _decode(stock_vae, latents)
    torch.manual_seed(5)
    assert torch.equal(_decode(vae, latents), stock)
    assert decoder.last_plan is not None
    assert not decoder.last_plan.tiled


@pytest.mark.parametrize("version", SMALL)
def test_tiles_and_slabs_have_the_pixels_of_the_renderer(version: str) -> None:
    vae, decoder = _adapted(version, share=0.66)
    decoder.noise_seed = 7
    normal = _latents(CLIP)
    tiled = _decode(vae, denormalize(normal, vae))
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
    assert _error(tiled[0], decode_shot(small_vae(version), normal, plan.slabs, wanted)) < 1e-5


@pytest.mark.parametrize("version", SMALL)
def test_tiles_with_enough_overlap_equal_the_whole_decode(version: str) -> None:
    vae, decoder = _adapted(version)
    decoder.noise_seed = 3
    latents = _latents(WIDE)
    whole = _decode(vae, latents)
    decoder.memory_budget = decoder.plan(latents).whole_bytes * 47 // 48
    decoder.enable_tiling(tile_size=None, overlap=EXACT_OVERLAP)
    tiled = _decode(vae, latents)
    assert decoder.last_plan is not None
    assert decoder.last_plan.grid == (1, 1, 2)
    assert _error(tiled, whole) < 1e-4
    assert whole.std() > 0.1


def test_more_overlap_means_less_error() -> None:
    vae, decoder = _adapted("0.9.0")
    latents = _latents((1, 2, 36))
    whole = _decode(vae, latents)
    errors = []
    for overlap in (0, 256, 512):
        decoder.enable_tiling(tile_size=36 * 32 - 32, overlap=overlap)
        errors.append(_error(_decode(vae, latents), whole))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


@pytest.mark.parametrize("version", SMALL)
def test_samples_of_a_batch_are_decoded_as_they_are_alone(version: str) -> None:
    vae, decoder = _adapted(version, share=0.66)
    decoder.noise_seed = 3
    pair = _latents(CLIP, samples=2)
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
    vae, decoder = _adapted("0.9.1", share=0.66)
    latents = _latents(CLIP)
    torch.manual_seed(1)
    first, second = _decode(vae, latents), _decode(vae, latents)
    torch.manual_seed(1)
    assert torch.equal(_decode(vae, latents), first)
    assert not torch.equal(first, second)
    decoder.noise_seed = 4
    state = torch.get_rng_state()
    fixed = _decode(vae, latents)
    assert torch.equal(_decode(vae, latents), fixed)
    assert torch.equal(torch.get_rng_state(), state)
    decoder.noise_seed = 5
    assert not torch.equal(_decode(vae, latents), fixed)


def test_a_decoder_without_noise_leaves_torchs_generator_alone() -> None:
    vae, _ = _adapted("0.9.5", share=0.66)
    state = torch.get_rng_state()
    _decode(vae, _latents(CLIP))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("slicing", [False, True])
def test_diffusers_own_tiling_and_slicing_still_do_what_they_did(tiled: bool, slicing: bool) -> None:
    latents = _latents((3, 3, 5), samples=2)
    pixels = []
    for vae in (small_vae("0.9.0"), _adapted("0.9.0")[0]):
        if slicing:
            vae.enable_slicing()
        if tiled:
            vae.enable_tiling(64, 64, 16, 32, 32, 8)
            vae.use_framewise_decoding = True
        pixels.append(_decode(vae, latents))
    assert _error(*pixels) < 1e-5


def test_gradients_are_those_of_the_stock_decoder_whole_tiled_and_checkpointed() -> None:
    latents = _latents(WIDE)

    def gradient(vae: AutoencoderKLLTXVideo) -> Tensor:
        vae.decoder.conv_in.conv.weight.requires_grad_(True)
        vae.zero_grad()
        vae.decode(latents, torch.tensor([0.05]), return_dict=False)[0].square().mean().backward()
        gradient = vae.decoder.conv_in.conv.weight.grad
        assert gradient is not None
        return gradient.clone()

    wanted = gradient(small_vae("0.9.5"))
    vae, decoder = _adapted("0.9.5")
    assert torch.equal(gradient(vae), wanted)
    decoder.memory_budget = decoder.plan(latents).whole_bytes * 47 // 48
    decoder.enable_tiling(tile_size=None, overlap=EXACT_OVERLAP)
    assert _error(gradient(vae), wanted) < 1e-4 * float(wanted.abs().max())
    assert decoder.last_plan is not None
    assert decoder.last_plan.tiled
    vae.enable_gradient_checkpointing()
    assert decoder.gradient_checkpointing
    assert torch.allclose(gradient(vae), wanted, atol=1e-6)
    assert decoder.last_plan.why == "gradients are checkpointed"
    # Without gradients there is nothing to checkpoint.
    _decode(vae, latents)
    assert decoder.last_plan.tiled


@pytest.mark.parametrize("version", SMALL)
def test_the_state_dict_is_the_stock_decoders_and_loads_both_ways(version: str) -> None:
    stock, (vae, decoder) = small_vae(version), _adapted(version)
    assert list(vae.state_dict()) == list(stock.state_dict())
    assert [name for name, _ in vae.named_modules()] == [name for name, _ in stock.named_modules()]
    changed = {name: value + 1 for name, value in stock.decoder.state_dict().items()}
    assert decoder.load_state_dict(changed) == ([], [])
    assert all(torch.equal(value, changed[name]) for name, value in decoder.state_dict().items())
    assert stock.decoder.load_state_dict(decoder.state_dict()) == ([], [])


def test_a_hierarchical_encoder_with_weights_adds_nothing_to_the_checkpoint() -> None:
    vae = small_vae("0.9.0")
    decoder = create_adaptive_decoder(vae, hierarchical_encoder=torch.nn.Linear(2, 2))
    assert list(decoder.state_dict()) == list(vae.decoder.state_dict())
    assert isinstance(decoder.hierarchical_encoder, torch.nn.Linear)


def test_a_copy_a_pickle_and_a_saved_file_decode_alike_and_are_independent() -> None:
    vae, decoder = _adapted("0.9.1", share=0.66)
    decoder.noise_seed = 2
    latents = _latents(CLIP)
    wanted = _decode(vae, latents)
    file = io.BytesIO()
    torch.save(decoder, file)
    file.seek(0)
    others = [
        copy.deepcopy(decoder),
        pickle.loads(pickle.dumps(decoder)),
        torch.load(file, weights_only=False),
    ]
    with torch.no_grad():
        decoder.conv_in.conv.weight.zero_()
    for other in others:
        assert other.memory_budget == decoder.memory_budget
        vae.decoder = other
        assert torch.equal(_decode(vae, latents), wanted)


def test_it_moves_with_the_vae_to_another_dtype_and_plans_with_its_bytes() -> None:
    vae, decoder = _adapted("0.9.5", share=0.66)
    latents = _latents(CLIP)
    tiled = _decode(vae, latents)
    assert decoder.last_plan is not None
    whole_bytes = decoder.last_plan.whole_bytes
    vae.to(torch.bfloat16)
    assert {parameter.dtype for parameter in decoder.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        halves = vae.decode(latents.bfloat16(), torch.tensor([0.05]).bfloat16(), return_dict=False)[0]
    assert halves.dtype == torch.bfloat16
    assert decoder.last_plan.whole_bytes < whole_bytes
    assert (halves.float() - tiled).square().mean().sqrt() < 0.05 * tiled.std()


def test_nothing_keeps_the_vae_alive() -> None:
    vae, decoder = _adapted("0.9.0")
    gone = weakref.ref(vae)
    gc.disable()
    try:
        del vae
        assert gone() is None
    finally:
        gc.enable()
    assert decoder(_latents((1, 1, 1))).shape == (1, 3, 1, 32, 32)


def test_an_adaptive_decoder_is_not_wrapped_again() -> None:
    vae, first = _adapted("0.9.5", share=0.66)
    first.enable_tiling(256, 64)
    second = create_adaptive_decoder(vae)
    assert second is not first
    assert list(second.state_dict()) == list(first.state_dict())
    assert second.conv_in is first.conv_in
    assert (second.memory_budget, second.tiling) == (None, Tiling(tile_size=None, overlap=None))
    assert not any(isinstance(module, LTXVideoDecoder3d) for module in list(second.modules())[1:])


def test_a_pipeline_renders_alike_and_saves_a_stock_checkpoint(tmp_path: Path) -> None:
    pipeline = LTXPipeline.from_pretrained(tiny_path(), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    request: dict[str, Any] = {
        "prompt": "a red circle",
        "height": 96,
        "width": 768,
        "num_frames": 17,
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
        "output_type": "np",
    }
    stock = pipeline(**request, generator=torch.Generator().manual_seed(0)).frames
    weights = {name: value.clone() for name, value in pipeline.vae.state_dict().items()}
    decoder = create_adaptive_decoder(pipeline.vae, HierarchicalVAEEncoder())
    pipeline.vae.decoder = decoder
    decoder.enable_tiling(tile_size=512, overlap=256)
    ours = pipeline(**request, generator=torch.Generator().manual_seed(0)).frames
    assert decoder.last_plan is not None
    assert decoder.last_plan.grid == (1, 1, 2)
    assert np.abs(ours - stock).max() < 0.5 / 255

    pipeline.save_pretrained(tmp_path / "saved")
    loaded, report = AutoencoderKLLTXVideo.from_pretrained(
        tmp_path / "saved" / "vae", output_loading_info=True
    )
    assert (list(report["missing_keys"]), list(report["unexpected_keys"])) == ([], [])
    assert type(loaded.decoder) is LTXVideoDecoder3d
    assert dict(loaded.config) | {"_name_or_path": None} == dict(pipeline.vae.config) | {
        "_name_or_path": None
    }
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())


def test_the_plan_is_told_in_the_log_and_on_the_decoder(caplog: pytest.LogCaptureFixture) -> None:
    vae, decoder = _adapted("0.9.0", share=0.66)
    with caplog.at_level(logging.INFO, logger="ltx_ray"):
        _decode(vae, _latents((1, 2, 3)))
        _decode(vae, _latents(CLIP))
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith("1 frames of 96x64 pixels decoded whole: it fits memory_budget")
    assert caplog.messages[1] == str(decoder.last_plan)
    assert "73 frames of 512x32 pixels decoded in" in caplog.messages[1]
    assert "halo 4 cells, ramp 64 pixels: the whole is more than memory_budget" in caplog.messages[1]


def test_tiling_can_be_turned_off_and_on() -> None:
    vae, decoder = _adapted("0.9.0", share=0.66)
    latents = _latents(CLIP)
    for enabled in (True, False, True):
        decoder.enable_tiling(tile_size=None, overlap=None) if enabled else decoder.disable_tiling()
        assert decoder.use_tiling == decoder.plan(latents).tiled == enabled
    decoder.disable_tiling()
    assert torch.equal(_decode(vae, latents), _decode(small_vae("0.9.0"), latents))
    assert not create_adaptive_decoder(vae, use_tiling=False).use_tiling


@pytest.mark.parametrize("budget_cells", [1000, 8])
def test_a_coarse_low_band_is_the_low_band_of_every_tile(budget_cells: int) -> None:
    encoder = HierarchicalVAEEncoder(latent_channels=8, compression_levels=2)
    vae, decoder = _adapted("0.9.0", hierarchical_encoder=encoder)
    latents = _latents((2, 6, 11))
    decoder.enable_tiling(tile_size=256, overlap=0)
    decoder.memory_budget = budget_cells * 196_608
    plain = _decode(vae, latents)
    # Rows and columns of cells in squares of four, the last ones continued.
    index_y, index_x = [0, 1, 2, 3, 4, 5, 5, 5], [*range(11), 10]
    squares = latents[..., index_y, :][..., index_x].unflatten(-1, (3, 4)).unflatten(-3, (2, 4))
    coarse = _decode(vae, squares.mean(dim=(-3, -1)))
    assert decoder.last_plan is not None
    assert decoder.last_plan.tiled == (budget_cells < 12)  # it keeps within the budget, too
    decoder.coarse_low_band = True
    bands, before = encoder.decompose(_decode(vae, latents)), encoder.decompose(plain)
    assert _error(bands.low / 4, coarse[..., :48, :88]) < 1e-5
    assert all(_error(a, b) < 1e-5 for a, b in zip(bands.high, before.high, strict=True))
    assert _error(bands.low, before.low) > 0.1


@pytest.mark.parametrize("encoder", [None, torch.nn.Identity(), HierarchicalVAEEncoder(use_wavelet=False)])
def test_a_coarse_low_band_needs_wavelets(encoder: torch.nn.Module | None) -> None:
    decoder = create_adaptive_decoder(small_vae("0.9.0"), hierarchical_encoder=encoder)
    with pytest.raises(ConfigError, match="coarse_low_band needs the wavelets of a HierarchicalVAEEncoder"):
        decoder.coarse_low_band = True
    decoder.coarse_low_band = False


def test_what_cannot_be_decoded_says_what_to_do() -> None:
    vae, decoder = _adapted("0.9.5")
    with pytest.raises(ConfigError, match="memory_budget must be a positive number of bytes or None, got 0"):
        decoder.memory_budget = 0
    decoder.memory_budget = 2**20
    for tile_size in (None, 512):
        decoder.enable_tiling(tile_size, 64)
        with pytest.raises(
            ConfigError, match=r"memory_budget must hold one tile .* got 1048576 bytes: raise it"
        ):
            _decode(vae, _latents(CLIP))
    with pytest.raises(UserError, match="wants one timestep, or one for each of 1 samples, got none"):
        vae.decode(_latents((1, 1, 1)))
    with pytest.raises(UserError, match=r"each of 2 samples, got a tensor \[3\]"):
        vae.decode(_latents((1, 1, 1), samples=2), torch.zeros(3))


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


@pytest.mark.slow
@pytest.mark.parametrize("version", ["0.9.0", "0.9.5"])
def test_the_released_decoders_decode_alike_whole_and_in_tiles(version: str) -> None:
    torch.manual_seed(0)
    vae = small_vae(version, **RELEASED[version], latent_channels=128)
    vae.decoder = decoder = create_adaptive_decoder(vae)
    latents = _latents((1, 2, 100), channels=128)
    whole = _decode(vae, latents)
    decoder.memory_budget = decoder.plan(latents).whole_bytes * 99 // 100
    errors = []
    for overlap in (256, 1024, 3072):
        decoder.enable_tiling(tile_size=None, overlap=overlap)
        errors.append(_error(_decode(vae, latents), whole))
        assert decoder.last_plan is not None
        assert decoder.last_plan.tiled
    assert errors[0] > 2 * errors[1]
    assert errors[2] < 1e-4

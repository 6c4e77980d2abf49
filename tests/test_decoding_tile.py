"""Tiles equal the whole decode at the exact halo, in space, in time and under noise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.video_processor import VideoProcessor
from small_vae import SMALL, small_vae
from torch import Tensor

from ltx_ray.decoding.noise import decode_noise
from ltx_ray.decoding.receptive import exact_halo
from ltx_ray.decoding.tile import DecodeSettings, decode_tile, to_uint8
from ltx_ray.decoding.whole import decode_shot
from ltx_ray.errors import BadResultError, LtxRayError, ModelError
from ltx_ray.planning.geometry import Ratios, frames_of
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.types import Slab

RATIOS = Ratios()
# (latents, rows, columns): wide enough that a cut still has an edge at the exact halo.
SPACE, TIME = (1, 26, 27), (30, 2, 2)


def _settings(size: tuple[int, int, int], **changes: Any) -> DecodeSettings:
    settings = DecodeSettings(
        decode_timestep=0.05,
        decode_noise_scale=0.025,
        seed=7,
        rows=size[1],
        columns=size[2],
        device="cpu",
        ratios=RATIOS,
    )
    return replace(settings, **changes)


def _latents(size: tuple[int, int, int]) -> Tensor:
    return torch.randn(1, 8, *size, generator=torch.Generator().manual_seed(1))


def _slabs(size: tuple[int, int, int], halo: int, tiles: bool = True, slabs: bool = True) -> tuple[Slab, ...]:
    """The size cut into two along each axis that is long, or not at all."""
    latents, rows, columns = size
    settings = TileSettings(
        halo=halo,
        temporal_halo=max(halo, 1),
        ramp=64,
        ramp_frames=8,
        tile_size=((columns + 1) // 2 + halo + 1) * 32 if tiles else 10_000,
        slab_frames=(latents + 1) // 2 * 8 if slabs and latents > 1 else 1000,
        tile_bytes=2**20,
        bytes_per_cell=1,
    )
    return plan_slabs(frames_of(latents, RATIOS), latents, rows, columns, settings, RATIOS)


def _plain(vae: Any, latents: Tensor) -> Tensor:
    """What ``LTXPipeline`` decodes where there is no noise."""
    mean, std = vae.latents_mean.view(1, -1, 1, 1, 1), vae.latents_std.view(1, -1, 1, 1, 1)
    timestep = torch.tensor([0.05]) if vae.config.timestep_conditioning else None
    with torch.inference_mode():
        pixels: Tensor = vae.decode(latents * std + mean, timestep, return_dict=False)[0][0]
    return pixels


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("size", [SPACE, TIME])
@pytest.mark.parametrize("version", ["0.9.0", "0.9.5"])
def test_tiles_at_the_exact_halo_equal_diffusers_decode_of_the_whole(
    version: str, size: tuple[int, int, int]
) -> None:
    vae, latents = small_vae(version), _latents(size)
    slabs = _slabs(size, max(exact_halo(vae.config)))
    assert len(slabs) * len(slabs[0].tiles) == (4 if size is SPACE else 2)
    tiled = decode_shot(vae, latents, slabs, _settings(size, decode_noise_scale=0.0))
    assert _error(tiled, _plain(vae, latents)) <= 1e-4


@pytest.mark.parametrize("size", [SPACE, TIME])
def test_decode_noise_and_injected_noise_agree_between_tiles_and_the_whole(
    size: tuple[int, int, int],
) -> None:
    vae, latents = small_vae("0.9.1"), _latents(size)
    settings = _settings(size, decode_noise_scale=0.3)
    tiled = decode_shot(vae, latents, _slabs(size, max(exact_halo(vae.config))), settings)
    whole = decode_shot(vae, latents, _slabs(size, 0, tiles=False, slabs=False), settings)
    assert _error(tiled, whole) <= 1e-4
    # Both kinds of noise are there, and they follow the shot's seed.
    assert _error(whole, _plain(vae, latents)) > 0.01
    for quiet in (replace(settings, decode_noise_scale=0.0), replace(settings, seed=8)):
        other = decode_shot(vae, latents, _slabs(size, 0, tiles=False, slabs=False), quiet)
        assert _error(whole, other) > 0.01


def test_decode_noise_is_mixed_in_as_by_ltx_pipeline() -> None:
    vae, latents = small_vae("0.9.5"), _latents((2, 2, 3))
    mean, std = vae.latents_mean.view(1, -1, 1, 1, 1), vae.latents_std.view(1, -1, 1, 1, 1)
    noise = decode_noise(7, 8, 3, (0, 2), (0, 2), (0, 3))
    with torch.inference_mode():
        mixed = 0.7 * (latents * std + mean) + 0.3 * noise
        wanted = vae.decode(mixed, torch.tensor([0.1]), return_dict=False)[0][0]
    settings = _settings((2, 2, 3), decode_noise_scale=0.3, decode_timestep=0.1)
    assert _error(decode_shot(vae, latents, _slabs((2, 2, 3), 0, tiles=False), settings), wanted) <= 1e-5


@pytest.mark.parametrize("size", [SPACE, TIME])
def test_the_error_falls_with_the_halo(size: tuple[int, int, int]) -> None:
    vae, latents = small_vae("0.9.0"), _latents(size)
    whole = _plain(vae, latents)
    errors = [
        _error(decode_shot(vae, latents, _slabs(size, halo), _settings(size)), whole) for halo in (2, 4, 8)
    ]
    assert errors[0] > 3 * errors[1] > 9 * errors[2] > 0


def test_the_first_frame_of_a_later_block_is_the_one_to_drop() -> None:
    """diffusers keeps a later block's first frame and drops its last: that is off by one frame."""
    vae, latents = small_vae("0.9.0"), _latents(TIME)
    halo = exact_halo(vae.config)[1]
    whole = _plain(vae, latents)
    start = 14
    block = _plain(vae, latents[:, :, start:])
    # Latent j of the shot covers [8j - 7, 8j]: with the first frame dropped, the block's 8 frames a latent.
    first = start + halo
    wanted = whole[:, 8 * first - 7 :]
    ours = block[:, 1:][:, 8 * (halo - 1) :]
    theirs = block[:, :-1][:, 8 * (halo - 1) :]
    assert _error(ours, wanted) <= 1e-4
    assert _error(theirs, wanted) > 1e3 * _error(ours, wanted)
    assert _error(theirs, wanted) > 0.01


def test_a_tile_needs_only_the_latents_of_its_slab() -> None:
    vae, latents, settings = small_vae("0.9.1"), _latents(TIME), _settings(TIME)
    slab = _slabs(TIME, 2)[1]
    with torch.inference_mode():
        of_all = decode_tile(vae, latents, 0, slab, slab.tiles[0], settings)
        held = latents[:, :, slab.t.in_start : slab.t.in_stop]
        of_held = decode_tile(vae, held, slab.t.in_start, slab, slab.tiles[0], settings)
    assert of_all.shape == (3, slab.t.size, 64, 64)
    assert torch.equal(of_all, of_held)


def test_latents_that_do_not_hold_the_slab_are_told() -> None:
    vae, latents, settings = small_vae("0.9.0"), _latents(TIME), _settings(TIME)
    slab = _slabs(TIME, 2)[1]
    with pytest.raises(LtxRayError, match=r"slab 1 wants latents \[12, 30\) of 2 x 2 cells, got \[13, 30\)"):
        decode_tile(vae, latents[:, :, 13:], 13, slab, slab.tiles[0], settings)
    with pytest.raises(LtxRayError, match=r"of 2 x 3 cells, got .* of 2 x 2"):
        decode_tile(vae, latents, 0, slab, slab.tiles[0], replace(settings, columns=3))


def test_nan_latents_and_foreign_ratios_do_not_become_pixels() -> None:
    vae, latents, settings = small_vae("0.9.0"), _latents((2, 2, 2)), _settings((2, 2, 2))
    (slab,) = _slabs((2, 2, 2), 0, tiles=False)
    with torch.inference_mode():
        with pytest.raises(BadResultError, match="tile 0 of slab 0 decoded to NaN"):
            decode_tile(vae, latents.log(), 0, slab, slab.tiles[0], settings)
        other = replace(settings, ratios=Ratios(time=4, space=32))
        with pytest.raises(ModelError, match=r"got \(9, 64, 64\)"):
            decode_tile(vae, latents, 0, slab, slab.tiles[0], other)


@pytest.mark.parametrize("version", SMALL)
def test_decoding_leaves_no_trace_on_the_vae_or_on_torchs_generator(version: str) -> None:
    vae, latents = small_vae(version), _latents((2, 2, 2))
    weights = {name: value.clone() for name, value in vae.state_dict().items()}
    state = torch.get_rng_state()
    slabs = _slabs((2, 2, 2), 0, tiles=False)
    first = decode_shot(vae, latents, slabs, _settings((2, 2, 2)))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(decode_shot(vae, latents, slabs, _settings((2, 2, 2))), first)
    assert all(torch.equal(value, weights[name]) for name, value in vae.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_uint8_is_what_diffusers_postprocessing_makes(dtype: torch.dtype) -> None:
    pixels = torch.linspace(-1.2, 1.2, 3 * 2 * 40 * 50).reshape(3, 2, 40, 50).to(dtype)
    theirs = VideoProcessor(vae_scale_factor=32).postprocess_video(pixels[None].float(), output_type="np")[0]
    ours = to_uint8(pixels)
    assert ours.dtype == np.uint8
    assert ours.shape == (2, 40, 50, 3)
    assert np.array_equal(ours, np.rint(theirs * 255))

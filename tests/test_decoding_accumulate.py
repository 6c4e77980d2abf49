"""Adding tiles one by one gives the sums of blend_float, rounded once to any dtype."""

import numpy as np
import pytest
import torch

from ltx_ray.decoding.accumulate import TileSum, axis_weights
from ltx_ray.decoding.blend import blend_float
from ltx_ray.errors import LtxRayError
from ltx_ray.planning.geometry import Ratios, frames_of
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.types import Slab

RATIOS = Ratios()
LATENTS, ROWS, COLUMNS = 9, 7, 9
SIZE = frames_of(LATENTS, RATIOS), ROWS * 32, COLUMNS * 32


def _slabs() -> tuple[Slab, ...]:
    settings = TileSettings(
        halo=1,
        temporal_halo=1,
        ramp=48,
        ramp_frames=8,
        tile_size=192,
        slab_frames=32,
        tile_bytes=2**20,
        bytes_per_cell=1,
    )
    return plan_slabs(SIZE[0], LATENTS, ROWS, COLUMNS, settings, RATIOS)


def _decoded(slab: Slab, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Random pixels for all that is decoded of each of the slab's tiles."""
    draw = torch.Generator().manual_seed(slab.index)
    shapes = [
        (
            3,
            frames_of(slab.t.in_stop - slab.t.in_start, RATIOS),
            (tile.y.in_stop - tile.y.in_start) * 32,
            (tile.x.in_stop - tile.x.in_start) * 32,
        )
        for tile in slab.tiles
    ]
    return [torch.randn(shape, generator=draw).to(dtype) for shape in shapes]


def _summed(slabs: tuple[Slab, ...], dtype: torch.dtype, pixels: torch.dtype) -> torch.Tensor:
    """All tiles of ``_decoded`` in ``pixels``, added to a video in ``dtype``."""
    output = torch.full((3, *SIZE), torch.nan, dtype=dtype)
    added = TileSum(output)
    for slab in slabs:
        for tile, part in zip(slab.tiles, _decoded(slab, pixels), strict=True):
            added.add(part, slab.t, tile)
    return output


def _exact(slabs: tuple[Slab, ...], dtype: torch.dtype) -> np.ndarray:
    """What the tiles' pixels in ``dtype`` sum to, in float64."""
    output = np.zeros((3, *SIZE))
    for slab in slabs:
        for tile, part in zip(slab.tiles, _decoded(slab, dtype), strict=True):
            axes = slab.t, tile.y, tile.x
            used = part.double().numpy()[:, *(slice(axis.crop, axis.crop + axis.size) for axis in axes)]
            down, over, along = (axis_weights(axis).astype(np.float64) for axis in (tile.y, tile.x, slab.t))
            weights = along[:, None, None] * down[:, None] * over
            output[:, *(slice(axis.out_start, axis.out_stop) for axis in axes)] += used * weights
    return output


def test_tiles_of_one_slab_become_what_blend_float_makes_of_them() -> None:
    slab = _slabs()[0]
    pixels = _decoded(slab)
    t = slab.t
    used = [
        part[
            :,
            t.crop : t.crop + t.size,
            tile.y.crop : tile.y.crop + tile.y.size,
            tile.x.crop : tile.x.crop + tile.x.size,
        ]
        for tile, part in zip(slab.tiles, pixels, strict=True)
    ]
    wanted = blend_float([part.numpy() for part in used], slab.tiles, *SIZE[1:])
    output = torch.zeros(3, *SIZE)
    added = TileSum(output)
    for tile, part in zip(slab.tiles, pixels, strict=True):
        added.add(part, t, tile)
    # The slab's last frames are shared with the slab after, and wait for it.
    whole = t.size - t.ramp_out
    assert len(slab.tiles) > 4
    assert 0 < whole < t.size
    assert np.abs(output[:, :whole].numpy() - wanted[:, :whole]).max() < 1e-6
    assert not output[:, whole:].any()


def test_weights_of_all_tiles_and_slabs_are_one_at_every_pixel_exactly() -> None:
    output = torch.zeros(3, *SIZE, dtype=torch.float64)
    slabs = _slabs()
    assert len(slabs) > 1
    added = TileSum(output)
    for slab in slabs:
        for tile, pixels in zip(slab.tiles, _decoded(slab), strict=True):
            added.add(torch.ones_like(pixels), slab.t, tile)
    assert torch.equal(output, torch.ones_like(output))


@pytest.mark.parametrize(("dtype", "half_step"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_in_half_precision_a_pixel_of_any_number_of_tiles_is_rounded_once(
    dtype: torch.dtype, half_step: float
) -> None:
    slabs = _slabs()
    exact = _exact(slabs, dtype)
    error = np.abs(_summed(slabs, dtype, dtype).double().numpy() - exact)
    # Half a step of the result, and of what float32 makes of sums of eight numbers below 6.
    assert (error <= half_step * np.abs(exact) * (1 + half_step) + 2**-20).all()
    assert np.abs(_summed(slabs, torch.float32, dtype).double().numpy() - exact).max() < 2**-20


def test_pixels_of_one_tile_alone_are_kept_to_the_bit_in_half_precision() -> None:
    slabs = _slabs()
    half = _summed(slabs, torch.bfloat16, torch.bfloat16)
    first = slabs[0].tiles[0]
    own = (slice(0, 8), slice(0, first.y.size - first.y.ramp_out), slice(0, first.x.size - first.x.ramp_out))
    wanted = _decoded(slabs[0], torch.bfloat16)[0]
    assert torch.equal(half[(slice(None), *own)], wanted[(slice(None), *own)])


def test_no_more_waits_between_tiles_than_their_ramps() -> None:
    slabs = _slabs()
    output = torch.zeros(3, *SIZE, dtype=torch.bfloat16)
    added = TileSum(output)
    most = 0
    for slab in slabs:
        for tile, part in zip(slab.tiles, _decoded(slab, torch.bfloat16), strict=True):
            added.add(part, slab.t, tile)
            kept = [*added._after.values(), *added._below.values(), added._right]
            most = max(most, sum(frame.untyped_storage().nbytes() for frames in kept for frame in frames))
    t, tiles = slabs[0].t, slabs[0].tiles
    frames = max(slab.t.size for slab in slabs)
    after = t.ramp_out * sum(tile.y.size * tile.x.size for tile in tiles)
    below = frames * 48 * sum(tile.x.size for tile in tiles if tile.y.out_start == 0)
    right = frames * 48 * max(tile.y.size for tile in tiles)
    assert 0 < most <= 3 * 4 * (after + below + right)
    assert not any(added._after.values())


def test_a_tile_that_is_too_small_is_told() -> None:
    slab = _slabs()[0]
    with pytest.raises(LtxRayError, match=r"tile 0 must be decoded to at least .* got \(1, 32, 32\)"):
        TileSum(torch.zeros(3, *SIZE)).add(torch.zeros(3, 1, 32, 32), slab.t, slab.tiles[0])

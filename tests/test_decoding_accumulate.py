"""Adding tiles one by one gives the sums of blend_float, in any order and any dtype."""

import numpy as np
import pytest
import torch

from ltx_ray.decoding.accumulate import add_tile, axis_weights
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
        tile_bytes=1,
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


def test_tiles_of_one_slab_become_what_blend_float_makes_of_them_in_any_order() -> None:
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
    # The slab's last frames are shared with the slab after.
    wanted = wanted * axis_weights(t)[:, None, None]
    outputs = []
    for order in (range(len(pixels)), reversed(range(len(pixels)))):
        output = torch.zeros(3, *SIZE)
        for index in order:
            add_tile(output, pixels[index], t, slab.tiles[index])
        outputs.append(output)
    assert len(slab.tiles) > 4
    assert np.abs(outputs[0][:, : t.size].numpy() - wanted).max() < 1e-6
    assert (outputs[0] - outputs[1]).abs().max() < 1e-6
    assert not outputs[0][:, t.size :].any()


def test_weights_of_all_tiles_and_slabs_are_one_at_every_pixel_exactly() -> None:
    output = torch.zeros(3, *SIZE, dtype=torch.float64)
    slabs = _slabs()
    assert len(slabs) > 1
    for slab in slabs:
        for tile, pixels in zip(slab.tiles, _decoded(slab), strict=True):
            add_tile(output, torch.ones_like(pixels), slab.t, tile)
    assert torch.equal(output, torch.ones_like(output))


def test_pixels_of_one_tile_alone_are_kept_to_the_bit_in_half_precision_and_sums_round_to_it() -> None:
    slab = _slabs()[0]
    pixels = _decoded(slab, torch.bfloat16)
    half, full = torch.zeros(3, *SIZE, dtype=torch.bfloat16), torch.zeros(3, *SIZE)
    for tile, part in zip(slab.tiles, pixels, strict=True):
        add_tile(half, part, slab.t, tile)
        add_tile(full, part, slab.t, tile)
    # At most four tiles meet at a pixel of one slab: as many roundings of relative 2**-9 of what is summed.
    assert ((half.float() - full).abs() <= 4 * 2**-9 * 4).all()
    first = slab.tiles[0]
    own = (slice(0, 8), slice(0, first.y.size - first.y.ramp_out), slice(0, first.x.size - first.x.ramp_out))
    assert torch.equal(half[(slice(None), *own)], pixels[0][(slice(None), *own)])


def test_a_tile_that_is_too_small_is_told() -> None:
    slab = _slabs()[0]
    with pytest.raises(LtxRayError, match=r"tile 0 must be decoded to at least .* got \(1, 32, 32\)"):
        add_tile(torch.zeros(3, *SIZE), torch.zeros(3, 1, 32, 32), slab.t, slab.tiles[0])

"""A tile in parts, for a device that lacks the memory for the whole: nearly the same pixels, other bytes.

Each part has a halo of its own where it is cut and none of it is blended, so that at the cut the error is
that of the halo alone (see docs/benchmarks.md, Tiles).
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ltx_ray.decoding.tile import DecodeSettings, decode_tile
from ltx_ray.types import Interval, Slab, Tile

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo

Y, X = 2, 3  # axes of pixels [3, frames, height, width]


def decode_in_parts(
    vae: "AutoencoderKLLTXVideo",
    latents: Tensor,
    first_latent: int,
    slab: Slab,
    tile: Tile,
    settings: DecodeSettings,
    halvings: int,
    halo: int,
) -> Tensor:
    """As ``decode_tile``, in up to 2 ** ``halvings`` parts one after the other; ``halo``: cells at a cut."""
    if not halvings or not (found := halves(tile, settings.ratios.space, halo)):
        return decode_tile(vae, latents, first_latent, slab, tile, settings)
    parts, axis = found
    made = [
        decode_in_parts(vae, latents, first_latent, slab, part, settings, halvings - 1, halo).cpu()
        for part in parts
    ]
    return torch.cat(made, dim=axis)


def halves(tile: Tile, space: int, halo: int) -> tuple[tuple[Tile, Tile], int] | None:
    """``tile`` in two, cut at the cell nearest to the middle of an axis, and that axis of the pixels: the
    longer one, if that makes the parts smaller, else the other. None where neither does."""
    for axis in (Y, X) if tile.y.size >= tile.x.size else (X, Y):
        found = _cut(tile.y if axis == Y else tile.x, space, halo)
        if found is not None:
            one, other = found
            if axis == Y:
                return (replace(tile, y=one), replace(tile, y=other)), axis
            return (replace(tile, x=one), replace(tile, x=other)), axis
    return None


def _cut(whole: Interval, space: int, halo: int) -> tuple[Interval, Interval] | None:
    cut = round((whole.out_start + whole.out_stop) / 2 / space)
    if not whole.out_start < cut * space < whole.out_stop:
        return None
    parts = _until(whole, cut, space, halo), _from(whole, cut, space, halo)
    largest = max(each.in_stop - each.in_start for each in parts)
    return parts if largest < whole.in_stop - whole.in_start else None


def _until(whole: Interval, cut: int, space: int, halo: int) -> Interval:
    stop = min(whole.in_stop, cut + halo)
    return replace(whole, in_stop=stop, out_stop=cut * space, ramp_in=0, ramp_out=0)


def _from(whole: Interval, cut: int, space: int, halo: int) -> Interval:
    start = max(whole.in_start, cut - halo)
    crop = cut * space - start * space
    return replace(whole, in_start=start, out_start=cut * space, ramp_in=0, ramp_out=0, crop=crop)

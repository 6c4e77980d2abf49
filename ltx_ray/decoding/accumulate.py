"""Tiles added into one buffer as they come: the sums of ``blend_float``, without keeping the tiles."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltx_ray.decoding.blend import ramp_weights
from ltx_ray.errors import LtxRayError
from ltx_ray.types import Interval, Tile


def axis_weights(axis: Interval) -> NDArray[np.float32]:
    """The share ``[axis.size]`` that a tile has in each of its used pixels (or frames): multiples of 1/256.

    Of all intervals of an axis together they are 1 everywhere; they rise and fall as sin^2.
    """
    weights = np.ones(axis.size, np.float32)
    weights[: axis.ramp_in] = ramp_weights(axis.ramp_in) / 256
    weights[axis.size - axis.ramp_out :] = ramp_weights(axis.ramp_out)[::-1] / 256
    return weights


def add_tile(output: Tensor, pixels: Tensor, t: Interval, tile: Tile) -> None:
    """Add a tile's share to ``output`` ``[3, F, H, W]``, which begins as zeros, in place.

    ``pixels`` are all that was decoded of the tile, ``[3, f, h, w]``, halo included, in any dtype, on the
    output's device. Sums are rounded to the output's dtype. Raises LtxRayError where ``pixels`` do not hold
    the tile's used part.
    """
    axes = t, tile.y, tile.x
    wanted = tuple(axis.crop + axis.size for axis in axes)
    if any(held < least for held, least in zip(pixels.shape[1:], wanted, strict=True)):
        raise LtxRayError(
            f"tile {tile.index} must be decoded to at least {wanted} frames, rows and columns, "
            f"got {tuple(pixels.shape[1:])}"
        )
    down, over = (torch.from_numpy(axis_weights(axis)).to(output.device) for axis in (tile.y, tile.x))
    plane = down[:, None] * over
    rows, columns = (slice(axis.crop, axis.crop + axis.size) for axis in (tile.y, tile.x))
    target = output[..., tile.y.out_start : tile.y.out_stop, tile.x.out_start : tile.x.out_stop]
    # Frame by frame: the products are in float32, and should not be as large as the tile again.
    for index, share in enumerate(axis_weights(t).tolist()):
        target[:, t.out_start + index] += pixels[:, t.crop + index, rows, columns] * (plane * share)

"""Tiles added up as they come: the sums of ``blend_float``, without keeping the tiles.

Sums are in float32, and a pixel is rounded to the video's dtype once, when all of its tiles are there. What
waits for that is no more than the ramps: of a tile those that its neighbours on the right and below share
with it, and the frames at the end of a slab that the slab after shares.
"""

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


class TileSum:
    """Adds the tiles of a shot to ``output`` ``[3, F, H, W]``, of any dtype, every pixel of which is written.

    Tiles come slab by slab, in the order of ``Slab.tiles``: row by row, from the left. Only when the last
    tile is there are all pixels whole.
    """

    def __init__(self, output: Tensor) -> None:
        self._output = output
        # Sums of frames, rows and columns that tiles to come add to, each a list of frames.
        self._after: dict[int, list[Tensor]] = {}  # by tile: the slab's last frames, [3, h, w]
        self._below: dict[int, list[Tensor]] = {}  # by where the tile starts in x: its last rows
        self._right: list[Tensor] = []  # the last columns of the tile before

    def add(self, pixels: Tensor, t: Interval, tile: Tile) -> None:
        """Add all that was decoded of a tile, ``[3, f, h, w]``, halo included, on the output's device.

        Raises LtxRayError where ``pixels`` do not hold the tile's used part.
        """
        _check_size(pixels, t, tile)
        y, x = tile.y, tile.x
        down, over = (torch.from_numpy(axis_weights(axis)).to(self._output.device) for axis in (y, x))
        plane = down[:, None] * over
        rows, columns = slice(y.crop, y.crop + y.size), slice(x.crop, x.crop + x.size)
        target = self._output[..., y.out_start : y.out_stop, x.out_start : x.out_stop]
        before, above, left = self._after.pop(tile.index, []), self._below.pop(x.out_start, []), self._right
        after, below, right = [], [], []
        # Frame by frame: the products are in float32, and should not be as large as the tile again.
        for index, share in enumerate(axis_weights(t).tolist()):
            sums = pixels[:, t.crop + index, rows, columns] * (plane * share)
            if index < t.ramp_in:
                sums += before[index]
            if index >= t.size - t.ramp_out:
                after.append(sums)
                continue
            # Where four tiles meet, the one below is told of this tile alone, and the one on the right of
            # this tile and the one above: so the last of the four counts each of them once.
            if y.ramp_out:
                below.append(sums[:, -y.ramp_out :].clone())
            if y.ramp_in:
                sums[:, : y.ramp_in] += above[index]
            if x.ramp_out:
                right.append(sums[..., -x.ramp_out :].clone())
            if x.ramp_in:
                sums[..., : x.ramp_in] += left[index]
            target[:, t.out_start + index] = sums
        self._after[tile.index], self._below[x.out_start], self._right = after, below, right


def _check_size(pixels: Tensor, t: Interval, tile: Tile) -> None:
    wanted = tuple(axis.crop + axis.size for axis in (t, tile.y, tile.x))
    if any(held < least for held, least in zip(pixels.shape[1:], wanted, strict=True)):
        raise LtxRayError(
            f"tile {tile.index} must be decoded to at least {wanted} frames, rows and columns, "
            f"got {tuple(pixels.shape[1:])}"
        )

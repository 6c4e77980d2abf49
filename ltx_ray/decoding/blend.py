"""How decoded tiles become frames: separable sin^2 ramps as fixed-point weights.

Weights along one axis are integers that sum to 256 wherever tiles overlap; products of two axes sum to
65,536, with time to 2**24. Sums of integers have no order, and a division by their total is a shift: the
frames do not depend on which tile came first. A pixel is rounded once, after all axes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ltx_ray.errors import LtxRayError
from ltx_ray.types import Frame, Interval, Shot, Slab, Tile

Pixels = NDArray[np.uint8]

_BITS = 8
_LEVELS = 1 << _BITS
# Rows that are mixed at a time: sums of that many rows of a 4K frame stay in a cache.
_BAND = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """The part of the tiles' plane that is written, in pixels of the plane."""

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def of(cls, frame: Frame, shot: Shot) -> "Canvas":
        """The centre of what the model makes, in the size that the shot asks for."""
        return cls(left=frame.crop_left, top=frame.crop_top, width=shot.width, height=shot.height)


@dataclass(frozen=True, slots=True)
class _Share:
    """What one tile's axis gives to a segment: from which of its own pixels on, with which weights."""

    interval: Interval
    first: int
    weights: NDArray[np.uint32] | None  # None: all of it


@dataclass(frozen=True, slots=True)
class _Segment:
    """A run of an axis that the same tiles cover, in the canvas' pixels."""

    start: int
    stop: int
    shares: tuple[_Share, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one tile gives to a cell; ``weights`` is ``[h or 1, w or 1]`` and stands for 256 ** ramps."""

    tile: int
    row: int
    column: int
    weights: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Cell:
    """A rectangle of the canvas that is covered by 1, 2 or 4 tiles: one for 0 ramps, twice for each ramp."""

    top: int
    left: int
    height: int
    width: int
    ramps: int
    parts: tuple[_Part, ...]


def ramp_weights(n: int) -> NDArray[np.uint32]:
    """The rising ramp over ``n`` pixels, 256 sin^2: integers 0..256 with w[i] + w[n - 1 - i] == 256."""
    angles = (np.arange(n) + 0.5) * (np.pi / 2 / max(n, 1))
    rising: NDArray[np.uint32] = np.rint(_LEVELS * np.sin(angles) ** 2).astype(np.uint32)
    # The upper half is made of the lower one, so that no rounding can break the sum.
    rising[n - n // 2 :] = _LEVELS - rising[: n // 2][::-1]
    if n % 2:
        rising[n // 2] = _LEVELS // 2
    return rising


def blend_frame(tiles: Sequence[Pixels], layout: Sequence[Tile], height: int, width: int) -> Pixels:
    """One frame ``[height, width, 3]`` of its tiles ``[h, w, 3]``; ``layout`` is in the same order."""
    canvas = Canvas(left=0, top=0, width=width, height=height)
    return _mixed(_cells(layout, canvas), canvas, [(tiles, None)])


def blend_slab(
    bodies: Sequence[Pixels], tails: Sequence[Pixels], slab: Slab, canvas: Canvas
) -> Iterator[Pixels]:
    """The frames ``[height, width, 3]`` that the slab writes, one after the other, in the canvas' size.

    ``bodies`` are the slab's tiles without their tails, ``[t.size - t.ramp_out, h, w, 3]``; ``tails`` those
    of the same tiles of the slab before, ``[t.ramp_in, h, w, 3]`` (empty for the first slab). Both stand in
    the order of ``slab.tiles``. Raises LtxRayError where a tile is missing or has another shape.
    """
    t = slab.t
    _check_tiles("bodies", bodies, slab, t.size - t.ramp_out)
    if t.ramp_in:
        _check_tiles("tails", tails, slab, t.ramp_in)
    cells = _cells(slab.tiles, canvas)
    rising = ramp_weights(t.ramp_in)
    for index in range(slab.num_frames):
        body = [pixels[index] for pixels in bodies]
        if index < t.ramp_in:
            level = int(rising[index])
            before = [pixels[index] for pixels in tails]
            yield _mixed(cells, canvas, [(before, _LEVELS - level), (body, level)])
        else:
            yield _mixed(cells, canvas, [(body, None)])


def split_tail(pixels: Pixels, slab: Slab) -> tuple[Pixels, Pixels]:
    """A tile's ``[t.size, h, w, 3]`` as (body for this slab, tail for the slab after); both are views."""
    if len(pixels) != slab.t.size:
        raise LtxRayError(f"a tile of slab {slab.index} must have {slab.t.size} frames, got {len(pixels)}")
    cut = slab.t.size - slab.t.ramp_out
    return pixels[:cut], pixels[cut:]


def blend_float(
    tiles: Sequence[NDArray[np.float32]], layout: Sequence[Tile], height: int, width: int
) -> NDArray[np.float32]:
    """The same sums on floats ``[..., h, w]`` -> ``[..., height, width]``: for errors apart from rounding."""
    canvas = Canvas(left=0, top=0, width=width, height=height)
    blended = np.zeros((*tiles[0].shape[:-2], height, width), np.float32)
    for cell in _cells(layout, canvas):
        target = blended[..., cell.top : cell.top + cell.height, cell.left : cell.left + cell.width]
        for part in cell.parts:
            rows, columns = _window(part, cell, 0, cell.height)
            target += tiles[part.tile][..., rows, columns] * _fractions(part.weights, cell.ramps)
    return blended


def _fractions(weights: NDArray[np.uint32], ramps: int) -> NDArray[np.float32]:
    fractions: NDArray[np.float32] = (weights / _LEVELS**ramps).astype(np.float32)
    return fractions


def _mixed(
    cells: Sequence[_Cell], canvas: Canvas, moments: Sequence[tuple[Sequence[Pixels], int | None]]
) -> Pixels:
    """A frame of one moment, or of two whose levels sum to 256 (the slab before's tail and this slab's)."""
    frame = np.empty((canvas.height, canvas.width, 3), np.uint8)
    for cell in cells:
        right = cell.left + cell.width
        if cell.ramps == 0 and len(moments) == 1:
            rows, columns = _window(cell.parts[0], cell, 0, cell.height)
            tile = moments[0][0][cell.parts[0].tile]
            frame[cell.top : cell.top + cell.height, cell.left : right] = tile[rows, columns]
            continue
        for first in range(0, cell.height, _BAND):
            stop = min(first + _BAND, cell.height)
            band = frame[cell.top + first : cell.top + stop, cell.left : right]
            band[:] = _weighted(cell, first, stop, moments)
    return frame


def _weighted(
    cell: _Cell, first: int, stop: int, moments: Sequence[tuple[Sequence[Pixels], int | None]]
) -> NDArray[np.unsignedinteger]:
    """Rows [first, stop) of a cell, rounded: the weighted sum of its tiles over the total of the weights."""
    ramps = cell.ramps + (len(moments) > 1)
    bits = _BITS * ramps
    # The largest sum, 255 x 256 ** ramps and the half for rounding, just fits 16 bits for one ramp and 32
    # for three: what is all of one tile on an axis needs no weight of that axis.
    kind = np.uint16 if ramps == 1 else np.uint32
    # Rows are flat, pixels and colours together: numpy is slow where the last axis has three values.
    total = np.full((stop - first, cell.width * 3), 1 << (bits - 1), kind)
    for tiles, level in moments:
        for part in cell.parts:
            rows, columns = _window(part, cell, first, stop)
            weights = part.weights[first:stop] if len(part.weights) > 1 else part.weights
            weights = weights if level is None else weights * np.uint32(level)
            weights = weights if weights.shape[1] == 1 else weights.repeat(3, axis=1)
            total += tiles[part.tile][rows, columns].reshape(total.shape) * weights.astype(kind)
    return (total >> kind(bits)).reshape(stop - first, cell.width, 3)


def _window(part: _Part, cell: _Cell, first: int, stop: int) -> tuple[slice, slice]:
    """Where a part's tile holds the rows [first, stop) of a cell."""
    return slice(part.row + first, part.row + stop), slice(part.column, part.column + cell.width)


def _cells(layout: Sequence[Tile], canvas: Canvas) -> tuple[_Cell, ...]:
    """The canvas cut at all borders of ramps."""
    index = {(tile.y, tile.x): position for position, tile in enumerate(layout)}
    across = _segments([tile.x for tile in layout], canvas.left, canvas.width)
    return tuple(
        _Cell(
            top=down.start,
            left=over.start,
            height=down.stop - down.start,
            width=over.stop - over.start,
            ramps=(len(down.shares) > 1) + (len(over.shares) > 1),
            parts=tuple(
                _Part(index[y.interval, x.interval], y.first, x.first, _product(y.weights, x.weights))
                for y in down.shares
                for x in over.shares
            ),
        )
        for down in _segments([tile.y for tile in layout], canvas.top, canvas.height)
        for over in across
    )


def _segments(intervals: Sequence[Interval], origin: int, length: int) -> tuple[_Segment, ...]:
    """The pixels [origin, origin + length) of an axis, cut at the borders of the intervals' ramps."""
    stop = origin + length
    borders = {origin, stop}
    for axis in intervals:
        inner = axis.out_start + axis.ramp_in, axis.out_stop - axis.ramp_out
        borders.update(border for border in (axis.out_start, *inner, axis.out_stop) if origin < border < stop)
    return tuple(
        _Segment(a - origin, b - origin, _shares(set(intervals), a, b)) for a, b in pairwise(sorted(borders))
    )


def _shares(intervals: set[Interval], start: int, stop: int) -> tuple[_Share, ...]:
    shares = tuple(
        _Share(axis, start - axis.out_start, _axis_weights(axis, start, stop))
        for axis in intervals
        if axis.out_start <= start and stop <= axis.out_stop
    )
    weights = [_LEVELS if share.weights is None else share.weights for share in shares]
    if not np.all(sum(weights, np.uint32(0)) == _LEVELS):
        raise LtxRayError(f"tiles must cover the pixels [{start}, {stop}) once, got {len(shares)} of them")
    return shares


def _axis_weights(axis: Interval, start: int, stop: int) -> NDArray[np.uint32] | None:
    """The weights of an interval's pixels [start, stop), which lie in one of its ramps or in none."""
    if start < axis.out_start + axis.ramp_in:
        return ramp_weights(axis.ramp_in)[start - axis.out_start : stop - axis.out_start]
    fall = axis.out_stop - axis.ramp_out
    if stop > fall:
        return ramp_weights(axis.ramp_out)[::-1][start - fall : stop - fall]
    return None


def _product(down: NDArray[np.uint32] | None, over: NDArray[np.uint32] | None) -> NDArray[np.uint32]:
    one = np.ones(1, np.uint32)
    weights: NDArray[np.uint32] = np.outer(one if down is None else down, one if over is None else over)
    return weights


def _check_tiles(name: str, tiles: Sequence[Pixels], slab: Slab, frames: int) -> None:
    wanted = [(frames, tile.y.size, tile.x.size, 3) for tile in slab.tiles]
    got = [tuple(pixels.shape) for pixels in tiles]
    if got != wanted:
        raise LtxRayError(f"{name} of slab {slab.index} must have the shapes {wanted}, got {got}")

"""Orthonormal Haar transforms over space and over time, exactly inverted, and space-to-depth beside them.

A transform halves an axis into a low band (scaled means of neighbours) and high bands (their differences).
Being orthonormal, it keeps the sum of squares, and each level doubles what a constant is worth in the low
band of a plane. ``Bands`` are several levels, each of which has split the low band of the one before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ltx_ray.errors import UserError

_HALF = 0.5
_SQRT_HALF = 0.5**0.5


@dataclass(frozen=True, slots=True)
class Bands:
    """A plane taken apart: ``low`` ``[..., H / 2**n, W / 2**n]`` and n sets of high bands, coarse to fine.

    High bands are ``[..., 3, h, w]``: differences across columns, across rows, and across both.
    """

    low: Tensor
    high: tuple[Tensor, ...]


def split_plane(pixels: Tensor, wavelet: bool) -> tuple[Tensor, Tensor]:
    """One level of ``[..., H, W]``, both even: low ``[..., H/2, W/2]`` and high ``[..., 3, H/2, W/2]``.

    Without ``wavelet`` the four phases of the pixels are taken apart, the first as the low band.
    """
    a, b = pixels[..., ::2, ::2], pixels[..., ::2, 1::2]
    c, d = pixels[..., 1::2, ::2], pixels[..., 1::2, 1::2]
    if not wavelet:
        return a, torch.stack((b, c, d), dim=-3)
    high = torch.stack((a - b + c - d, a + b - c - d, a - b - c + d), dim=-3)
    return (a + b + c + d) * _HALF, high * _HALF


def join_plane(low: Tensor, high: Tensor, wavelet: bool) -> Tensor:
    """The inverse of ``split_plane``."""
    x, y, z = high.unbind(dim=-3)
    a, b, c, d = low, x, y, z
    if wavelet:
        a, b = (low + x + y + z) * _HALF, (low - x + y - z) * _HALF
        c, d = (low + x - y - z) * _HALF, (low - x - y + z) * _HALF
    # [..., h, w, row of the pair, column of the pair]
    square = torch.stack((torch.stack((a, b), dim=-1), torch.stack((c, d), dim=-1)), dim=-2)
    return square.transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)


def split_levels(pixels: Tensor, levels: int, wavelet: bool) -> Bands:
    """``levels`` of ``split_plane``. Raises UserError where the sides are no multiples of 2**levels."""
    if any(side % 2**levels for side in pixels.shape[-2:]):
        raise UserError(
            f"height and width must be multiples of {2**levels} for {levels} levels, "
            f"got {tuple(pixels.shape[-2:])}: pad or crop the frames"
        )
    low, high = pixels, []
    for _ in range(levels):
        low, details = split_plane(low, wavelet)
        high.append(details)
    return Bands(low, tuple(reversed(high)))


def join_levels(bands: Bands, wavelet: bool) -> Tensor:
    """The inverse of ``split_levels``."""
    plane = bands.low
    for details in bands.high:
        plane = join_plane(plane, details, wavelet)
    return plane


def split_time(frames: Tensor) -> list[Tensor]:
    """All Haar levels of ``[2**k, ...]`` over its first axis, coarse to fine: of 1, 1, 2, 4 ... rows."""
    high = []
    while len(frames) > 1:
        even, odd = frames[::2], frames[1::2]
        high.append((even - odd) * _SQRT_HALF)
        frames = (even + odd) * _SQRT_HALF
    return [frames, *reversed(high)]


def join_time(bands: list[Tensor]) -> Tensor:
    """The inverse of ``split_time``."""
    frames, *high = bands
    for details in high:
        pair = torch.stack((frames + details, frames - details), dim=1) * _SQRT_HALF
        frames = pair.flatten(0, 1)
    return frames

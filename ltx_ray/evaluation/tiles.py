"""Seams of tiles: how steep the picture is across the lines on which tiles meet, over how steep it is
elsewhere; and how far a tiled decode is from a whole one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.frames import Pictures, luma
from ltx_ray.evaluation.zones import Border

_FRAMES = 24  # at full size, evenly apart, are enough: tiles lie still
_LEAST_ZONE = 4  # pixels around a border, where nothing is blended

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileFigures:
    """Figures of the borders of tiles."""

    num_borders: int  # lines
    ratio: float  # largest gradient energy of the lines around a border, over the same elsewhere; 1: no seam


def measure_tiles(
    pictures: Pictures, num_frames: int, columns: Sequence[Border], rows: Sequence[Border]
) -> TileFigures | None:
    """The figures of a video of ``num_frames`` whose tiles meet at ``columns`` and ``rows``; None without
    any. Reads ``pictures`` once, at full size."""
    if not columns and not rows:
        return None
    across, down = np.zeros(pictures.width - 1), np.zeros(pictures.height - 1)
    for picture in pictures.frames(every=max(num_frames // _FRAMES, 1)):
        grey = luma(picture.rgb)
        across += (np.diff(grey, axis=1) ** 2).mean(axis=0)
        down += (np.diff(grey, axis=0) ** 2).mean(axis=1)
    ratios = [*_ratios(across, columns), *_ratios(down, rows)]
    return TileFigures(num_borders=len(ratios), ratio=float(np.mean(ratios))) if ratios else None


def _ratios(energy: Series, borders: Sequence[Border]) -> Iterator[float]:
    """For each border the largest ``energy`` in its zone over the median of that in zones elsewhere.

    ``energy`` [size - 1] is that of the step before each pixel from the second on.
    """
    zones = [(border.at - 1, max(border.ramp // 2, _LEAST_ZONE)) for border in borders]
    taken = np.zeros(len(energy), dtype=bool)
    for at, half in zones:
        taken[max(at - half, 0) : at + half + 1] = True
    for at, half in zones:
        width = 2 * half + 1
        starts = range(0, len(energy) - width + 1, max(half // 2, 1))
        elsewhere = [energy[s : s + width].max() for s in starts if not taken[s : s + width].any()]
        if elsewhere and 0 <= at < len(energy):
            usual = float(np.median(elsewhere)) + 1e-7
            yield float(energy[max(at - half, 0) : at + half + 1].max() + 1e-7) / usual


def psnr(made: NDArray[np.generic], wanted: NDArray[np.generic], peak: float | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two pictures or videos of one shape, over all values; infinite
    where they are equal. ``peak`` None: 255 for uint8, else 1. Raises ValueError where their shapes
    differ."""
    if made.shape != wanted.shape:
        raise ValueError(f"PSNR needs two arrays of one shape, got {made.shape} and {wanted.shape}")
    top = peak or (255.0 if made.dtype == np.uint8 else 1.0)
    total, step = 0.0, max(1, 2**24 // max(made[0].size, 1)) if made.ndim else 1
    for start in range(0, len(made), step):
        error = made[start : start + step].astype(np.float64) - wanted[start : start + step].astype(
            np.float64
        )
        total += float((error**2).sum())
    mean = total / made.size
    return float("inf") if mean == 0 else float(10 * np.log10(top**2 / mean))

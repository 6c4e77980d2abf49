"""Drift: how brightness and colour wander from the beginning of a video to its end.

Brightness and colour are followed in 8 x 8 cells, each against itself, and the median of the cells counts:
what moves through the picture is no drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.curves import Curves

_END_SECONDS = 2.0  # at both ends, but no more than a third of the video
_LEAST_SECONDS = 1.0  # of a shorter video there is no drift
_DARK = 0.02  # added to what is divided by: in black nothing drifts
_LUMA = np.array([0.2126, 0.7152, 0.0722])

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFigures:
    """Parts of the brightness: 0.05 is 5%."""

    brightness: float  # change from the first seconds to the last
    colour: float  # largest change of a channel's share of the brightness, from the first seconds to the last
    slope: float  # change of the brightness over the video, along the straight line that fits best
    largest: float  # largest deviation of a second's brightness or channel from the video's median


def measure_drift(curves: Curves, calm: NDArray[np.bool_]) -> DriftFigures | None:
    """The drift of a video; None for one shorter than a second. ``calm`` [n]: frames without a flash."""
    seconds = len(curves) / curves.fps
    if seconds < _LEAST_SECONDS or calm.sum() < 4:
        return None
    cells, times = curves.cells[calm].astype(np.float64), curves.times[calm] - curves.times[0]
    end = min(_END_SECONDS, seconds / 3)
    first, last = (
        _look(cells, times <= max(end, times[1])),
        _look(cells, times >= min(seconds - end, times[-2])),
    )
    bins = np.floor(times).astype(np.int64)
    looks = np.stack([_look(cells, bins == each) for each in np.unique(bins)])
    at = np.array([times[bins == each].mean() for each in np.unique(bins)])
    usual = np.median(looks, axis=0)
    deviations = np.stack([_change(usual, each) for each in looks])
    bright = np.array([_change(usual @ _LUMA, each @ _LUMA) for each in looks])
    slope = float(np.polyfit(at, bright, 1)[0] * seconds) if len(at) > 1 else 0.0
    return DriftFigures(
        brightness=float(_change(first @ _LUMA, last @ _LUMA)),
        colour=float(np.abs(_share_change(first, last)).max()),
        slope=slope,
        largest=float(max(np.abs(deviations).max(), np.abs(bright).max())),
    )


def _look(cells: Series, chosen: NDArray[np.bool_]) -> Series:
    """[64, 3]: what each cell looks like for most of the ``chosen`` frames."""
    return np.asarray(np.median(cells[chosen], axis=0))


def _change(old: Series, new: Series) -> Series:
    """Relative change, median over cells (the first axis)."""
    return np.asarray(np.median((new - old) / (old + _DARK), axis=0))


def _share_change(old: Series, new: Series) -> Series:
    """[3] relative change of each channel's share of the brightness, median over cells."""
    shares = [(each + _DARK) / (each @ _LUMA + _DARK)[:, None] for each in (old, new)]
    return np.asarray(np.median(shares[1] / shares[0] - 1, axis=0))

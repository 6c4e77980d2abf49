"""Is there a picture, and does it live: black frames, frozen frames, flicker, values that are no numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.curves import Curves

_BLACK = 16 / 255  # luma that 99% of a black frame's pixels do not exceed
# Mean absolute difference, in 0..1, of frames that are the same: a tenth of a grey level. A shape of the
# world that moves slowly across a frame of 96 pixels makes ten times as much.
_FROZEN = 0.0004

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LivenessFigures:
    """Parts are of all frames, 0..1."""

    black: float  # part that is black
    frozen: float  # part that is as the frame before
    frozen_seconds: float  # longest run of those
    flicker: float  # mean amplitude, in 0..1, by which the brightness alternates from frame to frame
    nonfinite: int  # values that are NaN or infinite; video files have none


def measure_liveness(curves: Curves) -> LivenessFigures:
    """The figures of a video."""
    frozen = curves.difference < _FROZEN
    frozen[0] = False
    return LivenessFigures(
        black=float((curves.bright <= _BLACK).mean()),
        frozen=float(frozen[1:].mean()) if len(curves) > 1 else 0.0,
        frozen_seconds=_longest(frozen) / curves.fps,
        flicker=flicker(curves.brightness),
        nonfinite=int(curves.nonfinite.sum()),
    )


def flicker(brightness: Series) -> float:
    """Amplitude a of a brightness [n] that goes B + a, B - a, B + a ..., mean over all frames.

    Three changes in turn must have turning signs: an even change has none, nor a flash, which rises once.
    """
    steps = np.diff(brightness)
    if len(steps) < 3:
        return 0.0
    trios = np.stack([steps[:-2], -steps[1:-1], steps[2:]])
    alternates = (trios > 0).all(axis=0) | (trios < 0).all(axis=0)
    return float(np.where(alternates, np.abs(trios).min(axis=0) / 2, 0.0).mean())


def _longest(is_in: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_in, [False]]).astype(np.int8)))
    return int(np.max(edges[1::2] - edges[::2], initial=0))

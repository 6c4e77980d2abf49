"""Sound against picture: how late a picture shows what is heard, how far that varies, what it misses.

An offset is the picture's onset less the sound's: above 0 the picture is late. A picture's onset is known to
half a frame (``onsets``).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.onsets import Onsets

REACH = 0.25  # seconds within which an onset of the picture belongs to one of the sound
LARGEST_LAG = 1.0  # seconds by which the curves are shifted against each other

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """How a video's sound and picture go together. Offsets are None where no onset has a counterpart."""

    offset_ms: float | None  # median
    absolute_ms: float | None  # median of the absolute offsets
    p95_ms: float | None  # of the absolute offsets
    spread_ms: float | None  # standard deviation of the offsets
    matched: int
    missed: int  # onsets of the sound that the picture does not show
    extra: int  # onsets of the picture that the sound does not have
    correlation: float | None  # largest of the curves, -1..1, over all lags; None where one is flat
    lag_ms: float | None  # at which it is largest; above 0 the picture is late


def measure_sync(sound: Onsets, picture: Onsets) -> Sync:
    """The figures of a ``sound`` and a ``picture`` that begin together. What is heard after the last frame
    has appeared could not be seen, and is not counted."""
    heard_times = sound.times[sound.times <= (len(picture.strength) - 1) / picture.rate]
    pairs = match(heard_times, picture.times)
    offsets = np.array([picture.times[shown] - heard_times[heard] for heard, shown in pairs]) * 1000
    correlation, lag = _correlation(sound, picture)
    return Sync(
        offset_ms=float(np.median(offsets)) if pairs else None,
        absolute_ms=float(np.median(np.abs(offsets))) if pairs else None,
        p95_ms=float(np.quantile(np.abs(offsets), 0.95)) if pairs else None,
        spread_ms=float(offsets.std()) if pairs else None,
        matched=len(pairs),
        missed=len(heard_times) - len(pairs),
        extra=len(picture.times) - len(pairs),
        correlation=correlation,
        lag_ms=None if lag is None else 1000 * lag,
    )


def match(sound: Series, picture: Series, reach: float = REACH) -> list[tuple[int, int]]:
    """Pairs of indices (sound, picture) of onsets in seconds, no further than ``reach`` seconds apart, the
    nearest first; each onset is in one pair at most. Sorted."""
    apart = np.abs(picture[None, :] - sound[:, None])
    left_sound, left_picture = set(range(len(sound))), set(range(len(picture)))
    pairs = []
    for flat in np.argsort(apart, axis=None, kind="stable"):
        heard, shown = divmod(int(flat), max(len(picture), 1))
        if apart[heard, shown] > reach:
            break
        if heard in left_sound and shown in left_picture:
            left_sound.remove(heard)
            left_picture.remove(shown)
            pairs.append((heard, shown))
    return sorted(pairs)


def first_frames(onsets: Series, fps: float) -> NDArray[np.int64]:
    """The frames that first show what begins at ``onsets`` [k] seconds: frame f is shown at f / fps. Where
    the truth is known, as in the synthetic world, offsets in whole frames are exact against these."""
    return np.ceil(np.asarray(onsets) * fps - 1e-6).astype(np.int64)


def _correlation(sound: Onsets, picture: Onsets) -> tuple[float | None, float | None]:
    """(largest Pearson correlation of both curves, seconds of lag) over lags of up to a second."""
    fps, count = picture.rate, len(picture.strength)
    heard = np.zeros(count)
    frames = np.ceil(np.arange(len(sound.strength)) / sound.rate * fps - 1e-6).astype(np.int64)
    known = frames < count
    np.maximum.at(heard, frames[known], sound.strength[known])
    heard, shown = _smooth(heard), _smooth(picture.strength)
    most = min(round(LARGEST_LAG * fps), count - 2)
    values = {lag: _pearson(heard, shown, lag) for lag in range(-most, most + 1)}
    found = {lag: value for lag, value in values.items() if value is not None}
    if not found:
        return None, None
    best = max(found, key=lambda lag: (found[lag], -abs(lag)))
    shift = 0.0
    if best - 1 in found and best + 1 in found:  # the top of the parabola through three points
        left, middle, right = (found[best + step] for step in (-1, 0, 1))
        bend = left - 2 * middle + right
        shift = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return found[best], (best + shift) / fps


def _smooth(curve: Series) -> Series:
    """Square roots, so that no single onset outweighs the others, with a frame of tolerance."""
    return np.convolve(np.sqrt(curve), [0.25, 0.5, 0.25], mode="same")


def _pearson(heard: Series, shown: Series, lag: int) -> float | None:
    """Correlation of what is heard with what is shown ``lag`` frames later; None where one does not vary."""
    count = len(heard)
    first = heard[max(-lag, 0) : count - max(lag, 0)]
    second = shown[max(lag, 0) : count - max(-lag, 0)]
    spread = first.std() * second.std()
    if len(first) < 2 or spread < 1e-12:
        return None
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread)

"""How a shape of the synthetic world moves: which way, and how far from an even way around the frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltx_ray.training.world import DIRECTIONS

# Short sides per second below which a shape stands still; the slowest of the world move at 0.16.
_STANDS = 0.04
_STEP_SECONDS = 0.17  # between the two sights of a velocity
_PERIOD_RADII = 2.4  # room, in radii, between a shape's leaving and its entering again

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """An even way: centre(t) = start + velocity t, in short sides, modulo ``period`` along the way."""

    start: Points  # [2] x, y
    velocity: Points  # [2] a second
    period: Points  # [2]; infinite across the way
    error: float  # RMS distance of the sights from it, short sides

    def at(self, seconds: float) -> Points:
        """[2] the centre, not wrapped."""
        return np.asarray(self.start + self.velocity * seconds)


def velocity(times: Points, centres: Points) -> Points | None:
    """Median velocity [2] in short sides a second of ``centres`` [n, 2] at ``times`` [n] (rising; gaps are
    skipped); None with fewer than two close ones."""
    if len(times) < 2:
        return None
    frame = float(np.min(np.diff(times)))
    reach = max(round(_STEP_SECONDS / frame), 1)
    for step in range(min(reach, len(times) - 1), 0, -1):
        apart = times[step:] - times[:-step]
        close = apart < (step + 0.5) * frame
        if close.any():
            return np.asarray(
                np.median((centres[step:] - centres[:-step])[close] / apart[close, None], axis=0)
            )
    return None


def direction(speed: Points | None) -> str | None:
    """The world's word for a velocity [2]; None for one that stands still or is not known."""
    if speed is None or float(np.hypot(*speed)) < _STANDS:
        return None
    return max(DIRECTIONS, key=lambda word: float(np.dot(DIRECTIONS[word], speed)))


def fit_path(times: Points, centres: Points, radius: float, extent: tuple[float, float]) -> Path | None:
    """The even way that fits ``centres`` [n, 2] at ``times`` [n] seconds best, in least squares.

    ``extent`` is the frame's width and height in short sides. What leaves on one side enters on the other,
    ``extent`` and 2.4 radii later. None with fewer than three sights, or none that moves.
    """
    speed = velocity(times, centres)
    word = direction(speed)
    if len(times) < 3 or speed is None or word is None:
        return None
    along = np.abs(np.array(DIRECTIONS[word], dtype=np.float64))
    period = np.where(along > 0, np.array(extent) + _PERIOD_RADII * radius, np.inf)
    axis = int(np.argmax(along))
    unwrapped = centres.copy()
    unwrapped[:, axis] = _unwrapped(times, centres[:, axis], float(speed[axis]), float(period[axis]))
    basis = np.stack([np.ones(len(times)), times], axis=1)
    still = np.ones((len(times), 1))
    start, slope = np.zeros(2), np.zeros(2)
    error = np.zeros(len(times))
    for each in (0, 1):  # across the way there is no motion
        columns = basis if each == axis else still
        found = np.linalg.lstsq(columns, unwrapped[:, each], rcond=None)[0]
        start[each], slope[each] = found[0], found[1] if each == axis else 0.0
        error += (unwrapped[:, each] - columns @ found) ** 2
    return Path(start=start, velocity=slope, period=period, error=float(np.sqrt(error.mean())))


def _unwrapped(times: Points, values: Points, speed: float, period: float) -> Points:
    """``values`` with whole periods added, each nearest to where the one before leads."""
    found = values.copy()
    for index in range(1, len(values)):
        expected = found[index - 1] + speed * (times[index] - times[index - 1])
        found[index] += period * round((expected - found[index]) / period)
    return found

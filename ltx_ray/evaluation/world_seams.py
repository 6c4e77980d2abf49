"""Seams of chunks in the synthetic world: does the shape's way go on where the next chunk begins?

The way is extrapolated: a straight line through the time before a seam and one through the time after it
are compared in the seam's middle. The same is done in the middle of runs inside chunks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ltx_ray.evaluation.seams import MARGIN
from ltx_ray.evaluation.world_path import Path, Points, direction, fit_path
from ltx_ray.evaluation.world_track import Track
from ltx_ray.evaluation.zones import Seam, windows_between

_SECONDS = 1.5  # to both sides, but not beyond the next seam
_LEAST = 5  # frames with the whole shape in each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSeamFigures:
    """None: flashes, or the border of the frame, leave nothing to compare. Lengths are in short sides."""

    seam_jumps: tuple[float, ...]  # one for each seam that can be measured
    inside_jumps: tuple[float, ...]
    directions_kept: tuple[bool, ...]  # one for each seam that can be measured


def measure_world_seams(seen: Track, radius: float, seams: Sequence[Seam]) -> WorldSeamFigures:
    """The jumps of a track at its ``seams`` and inside its chunks. ``radius``: of the shape, in short
    sides."""
    runs = windows_between(seams, len(seen.times), MARGIN)
    inside = [Seam(start + MARGIN, stop - MARGIN - 1) for start, stop in runs]
    at_seams = [each for seam in seams if (each := _sides(seen, radius, seam, seams))]
    return WorldSeamFigures(
        seam_jumps=tuple(_jump(*each) for each in at_seams),
        inside_jumps=tuple(_jump(*each) for place in inside if (each := _sides(seen, radius, place, seams))),
        directions_kept=tuple(
            direction(before.velocity) == direction(after.velocity) for before, after, _ in at_seams
        ),
    )


def _sides(seen: Track, radius: float, place: Seam, seams: Sequence[Seam]) -> tuple[Path, Path, float] | None:
    """(the way before ``place``, the way after, the second in the middle)."""
    reach = round(_SECONDS * seen.fps)
    first = max([0, place.start - reach, *(seam.stop for seam in seams if seam.stop < place.start)])
    last = min([place.stop + reach, *(seam.start for seam in seams if seam.start > place.stop)])
    sides = []
    for part in (slice(first, place.start), slice(place.stop, last)):
        clear = seen.clear[part]
        if clear.sum() < _LEAST:
            return None
        path = fit_path(seen.times[part][clear], seen.centres[part][clear], radius, seen.extent)
        if path is None:
            return None
        sides.append(path)
    return sides[0], sides[1], float(seen.times[0]) + (place.start + place.stop) / 2 / seen.fps


def _jump(before: Path, after: Path, seconds: float) -> float:
    """Distance of two ways at one time, to the nearest of the copies a period apart."""
    apart: Points = after.at(seconds) - before.at(seconds)
    finite = np.isfinite(before.period)
    apart[finite] -= before.period[finite] * np.round(apart[finite] / before.period[finite])
    return float(np.hypot(*apart))

"""Seams of chunks: what happens where one chunk passes into the next, over what happens inside chunks.

Each figure is one statistic of the frames around a seam, the whole crossfade and a margin, over the same
statistic of runs of as many frames inside chunks: 1 is a seam that nobody can find. A hard cut shows in the
difference, a crossfade of two pictures that do not agree in the edges, which are shown twice, at half
strength.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.curves import Curves
from ltx_ray.evaluation.flashes import calm_runs
from ltx_ray.evaluation.zones import Seam, windows_between

# Frames beside a seam that belong to it: a video VAE makes each frame of the latents around it.
MARGIN = 4
# What must be left of a run of frames once flashes are taken out.
_LEAST_PART, _LEAST = 1 / 3, 3
_SIDE_SECONDS = 0.5  # to both sides of a seam, in which brightness and colour are compared
# Added to differences, in 0..1, before they are divided: half of a grey level, so that the rounding of a
# still picture is no seam.
_ROUNDING = 0.002
# Frames to both sides, whose edges those of a seam are compared with, and how far away they may be.
_BESIDE, _EDGE_SECONDS = 10, 1.0
_DARK = 0.02  # added to brightness before it divides
_WEAKEST = 1 / 3  # of the frames of a seam, whose edges are taken

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeamFigures:
    """None: flashes or short chunks leave nothing to compare."""

    num_seams: int
    difference: float | None  # mean compensated difference at seams over that inside chunks
    peak: float | None  # the same of the largest difference of each run
    edges: float | None  # energy of edges left at seams over that inside chunks; below 1 blurred, or doubled
    step: float | None  # change of brightness or colour across seams, part of it
    inside_step: float | None  # the same across the middles of runs inside chunks


def measure_seams(curves: Curves, calm: NDArray[np.bool_], seams: Sequence[Seam]) -> SeamFigures | None:
    """The figures of a video's ``seams``; None where it has none. ``calm`` [n]: frames without a flash."""
    if not seams:
        return None
    trios = calm_runs(calm, 3)  # a difference is that of a frame to what the two before it lead to
    runs = windows_between(seams, len(curves), MARGIN)
    inside = [Seam(start + MARGIN, stop - MARGIN - 1) for start, stop in runs]
    return SeamFigures(
        num_seams=len(seams),
        difference=_ratio(contrast(curves.compensated, trios, seams, np.mean), _ROUNDING),
        peak=_ratio(contrast(curves.compensated, trios, seams, np.max), _ROUNDING),
        edges=_ratio((_edges(curves, calm, seams), _edges(curves, calm, inside)), 0.0),
        step=_mean(_steps(curves, calm, seams)),
        inside_step=_mean(_steps(curves, calm, inside)),
    )


def contrast(
    series: Series, usable: NDArray[np.bool_], seams: Sequence[Seam], statistic: Callable[[Series], float]
) -> tuple[Series, Series]:
    """``statistic`` of a ``series`` [n] at each seam, and in each run of the same length inside chunks.

    Frames that are not ``usable`` [n] are left out, and runs that have hardly any others.
    """
    count = len(series)
    at_seams = [(seam.start - MARGIN, seam.stop + MARGIN + 1) for seam in seams]
    results = []
    for runs in (at_seams, windows_between(seams, count, MARGIN)):
        values = []
        for start, stop in runs:
            start, stop = max(start, 1), min(stop, count)
            chosen = series[start:stop][usable[start:stop]]
            if len(chosen) >= max(_LEAST, _LEAST_PART * (stop - start)):
                values.append(float(statistic(chosen)))
        results.append(np.array(values))
    return results[0], results[1]


def _ratio(found: tuple[Series, Series], rounding: float) -> float | None:
    at_seams, inside = found
    if not len(at_seams) or not len(inside):
        return None
    below = float(inside.mean()) + rounding
    return (float(at_seams.mean()) + rounding) / below if below > 0 else None


def _edges(curves: Curves, calm: NDArray[np.bool_], places: Sequence[Seam]) -> Series:
    """At each place that can be measured: the weakest third of the edges over the weaker of what they are
    just before and just after it. What leaves the frame weakens them too, but not on both sides alike."""
    reach = round(_EDGE_SECONDS * curves.fps)
    found = []
    for place in places:
        start, stop = max(place.start - MARGIN, 0), place.stop + MARGIN + 1
        at = curves.edges[start:stop][calm[start:stop]]
        first = max(start - reach, 0)
        before = curves.edges[first:start][calm[first:start]][-_BESIDE:]
        after = curves.edges[stop : stop + reach][calm[stop : stop + reach]][:_BESIDE]
        if min(len(at), len(before), len(after)) >= _LEAST:
            weakest = np.sort(at)[: max(round(len(at) * _WEAKEST), 1)].mean()
            beside = min(float(np.median(before)), float(np.median(after)))
            found.append(min(float(weakest) / beside, 1.0) if beside > 0 else 1.0)
    return np.array(found)


def _steps(curves: Curves, calm: NDArray[np.bool_], places: Sequence[Seam]) -> list[float]:
    """Relative change of the channel that changes most, as the median over 8 x 8 cells, from the half second
    before each place to the half second after it."""
    reach = max(round(_SIDE_SECONDS * curves.fps), 2)
    found = []
    for place in places:
        before = slice(max(place.start - reach, 0), place.start)
        after = slice(place.stop, place.stop + reach)
        if calm[before].sum() >= 2 and calm[after].sum() >= 2:
            old = np.median(curves.cells[before][calm[before]], axis=0)
            new = np.median(curves.cells[after][calm[after]], axis=0)
            found.append(float(np.abs(np.median((new - old) / (old + _DARK), axis=0)).max()))
    return found


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None

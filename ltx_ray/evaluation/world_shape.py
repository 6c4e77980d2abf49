"""Which shape of the synthetic world a mask shows: the one that covers it best."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.world_mask import Sight
from ltx_ray.training.world import SHAPES

# Areas of the shapes of radius 1, as ``training.world_picture`` draws them.
AREAS = {"circle": np.pi, "square": 4 * 0.86**2, "triangle": 0.5 * 1.986 * 1.72}
# How far below its centre, in radii, the middle of a triangle's area lies.
_TRIANGLE_SINKS = 0.047
_RADII = (
    0.13,
    0.29,
)  # short sides, between which the radius of a shape that is cut by the border is looked for
_RADIUS, _OUTWARDS = 0.2, 0.05  # short sides, where that search begins
_ROUNDS = 12  # at each step's length, at most
_STEPS = (0.08, 0.04, 0.02, 0.01, 0.005)  # short sides, of that search

Place = tuple[float, float, float]  # x, y of the centre and radius, in short sides


def fits(sight: Sight) -> dict[str, tuple[float, Place]]:
    """For each shape how well it covers a sight that is whole (intersection over union, 0..1), and where: at
    the sight's middle, with its area."""
    found = {}
    for shape in SHAPES:
        radius = float(np.sqrt(sight.area / AREAS[shape]))
        sinks = _TRIANGLE_SINKS * radius if shape == "triangle" else 0.0
        place = (sight.centre[0], sight.centre[1] - sinks, radius)
        found[shape] = (_overlap(sight.mask, shape, place), place)
    return found


def searched_fits(sight: Sight) -> dict[str, tuple[float, Place]]:
    """The same for a sight that the border cuts: centre and radius are looked for, also beyond the border."""
    return {shape: searched_fit(sight, shape) for shape in SHAPES}


def vote(found: Sequence[dict[str, tuple[float, Place]]]) -> tuple[str, float]:
    """The shape that covers best over all sights, and how well on average (0..1). Needs one at least."""
    means = {shape: float(np.mean([fit[shape][0] for fit in found])) for shape in SHAPES}
    best = max(means, key=lambda shape: means[shape])
    return best, means[best]


def searched_fit(sight: Sight, shape: str, radius: float | None = None) -> tuple[float, Place]:
    """One ``shape`` of them; with a ``radius``, in short sides, only its centre is looked for."""
    mask = sight.mask
    # A shape that is cut has its centre further out than what is seen of it.
    place = (
        sight.centre[0] + _OUTWARDS * (int(mask[:, -1].any()) - int(mask[:, 0].any())),
        sight.centre[1] + _OUTWARDS * (int(mask[-1].any()) - int(mask[0].any())),
        _RADIUS if radius is None else radius,
    )
    best = _overlap(mask, shape, place)
    for step in _STEPS:
        moves = [(step, 0.0, 0.0), (-step, 0.0, 0.0), (0.0, step, 0.0), (0.0, -step, 0.0)]
        if radius is None:
            moves += [(0.0, 0.0, step / 2), (0.0, 0.0, -step / 2)]
        for _ in range(_ROUNDS):
            before = best
            for dx, dy, dr in moves:
                size = min(max(place[2] + dr, _RADII[0]), _RADII[1]) if radius is None else radius
                moved = (place[0] + dx, place[1] + dy, size)
                if (fit := _overlap(mask, shape, moved)) > best + 1e-6:
                    best, place = fit, moved
            if best == before:
                break
    return best, place


def _overlap(mask: NDArray[np.bool_], shape: str, place: Place) -> float:
    """Intersection over union of ``mask`` and a shape at ``place``, within the frame."""
    inside = shape_mask(shape, place, *mask.shape)
    union = int((mask | inside).sum())
    return int((mask & inside).sum()) / union if union else 0.0


def shape_mask(shape: str, place: Place, height: int, width: int) -> NDArray[np.bool_]:
    """[height, width]: the pixels whose middle lies in a shape at ``place``."""
    side = min(height, width)
    u = ((np.arange(width) + 0.5) / side - place[0])[None, :] / place[2]
    v = ((np.arange(height) + 0.5) / side - place[1])[:, None] / place[2]
    if shape == "circle":
        return np.asarray(u * u + v * v < 1)
    if shape == "square":
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) < 0.86)
    return np.asarray((v < 0.62) & (0.866 * np.abs(u) - 0.5 * v < 0.55))

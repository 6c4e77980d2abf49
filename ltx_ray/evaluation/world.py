"""Videos of the synthetic world against their prompt: is it the colour, the shape, the direction that it
names, does one shape move evenly, and does it stay itself."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.frames import Pictures
from ltx_ray.evaluation.world_path import Path, direction, fit_path, velocity
from ltx_ray.evaluation.world_shape import AREAS, searched_fit, searched_fits, vote
from ltx_ray.evaluation.world_track import Track, watch
from ltx_ray.training.world import COLOURS, DIRECTIONS, SHAPES

# Intersection over union below which what is seen is none of the world's shapes. Another of them than the one
# that is shown covers at most 0.87 of it, blurred ones are covered to 0.95.
_LEAST_FIT = 0.75
_FEW = 3  # frames: with fewer that show a whole shape, those in which the border cuts it are asked
_SEARCHED = 10  # of those are looked at

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Named:
    """What a prompt of the world names."""

    colour: str  # of COLOURS
    shape: str  # of SHAPES
    direction: str  # of DIRECTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldFigures:
    """What a video of the world shows. None: it could not be told. Lengths are in short sides."""

    colour: str | None  # the nearest of COLOURS
    shape: str | None
    direction: str | None
    shape_fit: float | None  # how well the shape covers what is seen (intersection over union), 0..1
    radius: float | None  # of the shape
    position_error: float | None  # RMS distance of the shape's middle from an even way around the frame
    shape_count: float  # median over calm frames
    most_shapes: int  # in any calm frame
    sharpness: float | None  # median of the steepest edges, contrasts per short side
    colour_drift: (
        float | None
    )  # largest change of the shape's R, G or B from the first to the last third, 0..1
    path: Path | None


def parse_prompt(text: str) -> Named | None:
    """What a prompt names; None unless it names one colour, one shape and one direction of the world."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    found = [sorted(words & set(known)) for known in (COLOURS, SHAPES, DIRECTIONS)]
    if any(len(each) != 1 for each in found):
        return None
    return Named(found[0][0], found[1][0], found[2][0])


def measure_world(pictures: Pictures) -> tuple[WorldFigures, Track]:
    """The figures of a video of the world, and the track that they come from. Reads ``pictures`` once."""
    seen = watch(pictures)
    return judge(seen), seen


def judge(seen: Track) -> WorldFigures:
    """The figures of a track."""
    clear = seen.clear
    visible = seen.calm & (seen.areas > 0)
    if clear.sum() >= _FEW:
        means = seen.fits[clear].mean(axis=0)
        shape: str | None = SHAPES[int(np.argmax(means))]
        fit: float | None = float(means.max())
        speed = velocity(seen.times[clear], seen.centres[clear])
    else:
        shape, fit, speed = _judge_cut(seen)
    if fit is not None and fit < _LEAST_FIT:
        shape = None
    path = radius = None
    if shape is not None and clear.any():
        radius = float(np.sqrt(np.median(seen.areas[clear]) / AREAS[shape]))
        path = fit_path(seen.times[clear], seen.centres[clear], radius, seen.extent)
    return WorldFigures(
        colour=_nearest_colour(seen.colours[visible]) if visible.any() else None,
        shape=shape,
        direction=direction(speed),
        shape_fit=fit,
        radius=radius,
        position_error=None if path is None else path.error,
        shape_count=float(np.median(seen.counts[seen.calm])) if seen.calm.any() else 0.0,
        most_shapes=int(seen.counts[seen.calm].max()) if seen.calm.any() else 0,
        sharpness=float(np.median(seen.sharpness[clear])) if clear.any() else None,
        colour_drift=_colour_drift(seen),
        path=path,
    )


def _judge_cut(seen: Track) -> tuple[str | None, float | None, Points | None]:
    """(shape, fit, velocity) from frames in which the border cuts the shape, and the few in which it is
    whole."""
    calm = [(index, sight) for index, sight in seen.cut if seen.calm[index]]
    if not calm:
        return None, None, None
    chosen = [calm[at] for at in np.unique(np.linspace(0, len(calm) - 1, _SEARCHED).round().astype(int))]
    found = [searched_fits(sight) for _, sight in chosen]
    shape, fit = vote(found)
    if len(chosen) < 2:
        return shape, fit, None
    # Of a small part, a small shape that is near is hard to tell from a large one further out: the size is
    # one.
    radius = float(np.median([each[shape][1][2] for each in found]))
    times = seen.times[[index for index, _ in chosen]]
    centres = np.array([searched_fit(sight, shape, radius)[1][:2] for _, sight in chosen])
    return shape, fit, np.asarray(np.median(np.diff(centres, axis=0) / np.diff(times)[:, None], axis=0))


def _nearest_colour(colours: Points) -> str:
    """The colour of the world that is nearest to the median of ``colours`` [n, 3]."""
    shown = np.median(colours, axis=0)
    return min(COLOURS, key=lambda name: float(((shown - np.array(COLOURS[name])) ** 2).sum()))


def _colour_drift(seen: Track) -> float | None:
    shown = seen.colours[seen.clear]
    third = len(shown) // 3
    if not third:
        return None
    return float(np.abs(np.median(shown[-third:], axis=0) - np.median(shown[:third], axis=0)).max())

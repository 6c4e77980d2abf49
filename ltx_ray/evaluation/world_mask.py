"""Where the shape is in a frame of the synthetic world: what stands out of a smooth background.

The background is a plane in each channel, fitted to the greyish pixels and then to those that it explains.
The shape's edge is where half of its contrast is left, which no even blur moves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Colours of the world are no closer than 0.6 between their largest and smallest channel, backgrounds no
# further than 0.1.
_GREYISH = 0.25
_FITS, _STEP = 3, 2  # passes of the fit, on every second pixel along both axes
_NOISE = 0.03  # distance, in 0..1, that a pixel of the background may always have
# Distances are Euclidean in RGB. The contrast is the mean of the largest 3%: a shape has more than 4% of a
# frame twice as long as wide.
_LARGEST = 0.03
_LEAST_CONTRAST = 0.2  # below it there is no shape
_EDGE, _FAINT = 0.5, 0.35  # of the contrast: the shape's edge, and what counts as one more shape
_LEAST_AREA = 0.012  # of the short side squared: the smallest shapes of the world have six times as much
_TOUCHING = 0.3  # of the area's root: how much of a shape may lie along the border of the frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The largest shape of one frame. Lengths are in short sides of the frame."""

    count: int  # shapes of significant area, faint ones too
    area: float  # of the largest; 0: there is none
    is_whole: bool  # not cut by the border
    centre: tuple[float, float]  # x, y
    colour: tuple[float, float, float]  # RGB 0..1, the median of its inner pixels
    behind: tuple[float, float, float]  # RGB 0..1, the background in the middle of the frame
    contrast: float  # RGB distance of shape and background
    sharpness: float  # steepest edges, in contrasts per short side
    mask: NDArray[np.bool_]  # [H, W]


def look(rgb: NDArray[np.float32]) -> Sight:
    """The shape in a frame ``rgb`` [H, W, 3] in 0..1."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    background = _background(rgb)
    distance = np.sqrt(((rgb - background) ** 2).sum(axis=-1))
    contrast = _largest(distance)
    middle = background[height // 2, width // 2]
    behind = (float(middle[0]), float(middle[1]), float(middle[2]))
    if contrast < _LEAST_CONTRAST:
        nothing = np.zeros((height, width), dtype=bool)
        return Sight(
            count=0, area=0.0, is_whole=False, centre=(0.0, 0.0), colour=behind, behind=behind,
            contrast=contrast, sharpness=0.0, mask=nothing,
        )  # fmt: skip
    least = _LEAST_AREA * side**2
    faint = components(distance > _FAINT * contrast)
    parts = components(distance > _EDGE * contrast)
    largest = max(parts, key=lambda part: int(part.sum()))
    y, x = np.nonzero(largest)
    weights = distance[largest]
    inner = rgb[largest & (distance > 0.8 * contrast)]
    median = np.median(inner if len(inner) else rgb[largest], axis=0)
    border = np.concatenate([largest[0], largest[-1], largest[1:-1, 0], largest[1:-1, -1]]).sum()
    down, right = np.diff(distance, axis=0)[:, 1:], np.diff(distance, axis=1)[1:]
    return Sight(
        count=sum(int(part.sum()) >= least for part in faint),
        area=len(x) / side**2 if len(x) >= least else 0.0,
        is_whole=len(x) >= least and border <= _TOUCHING * np.sqrt(len(x)),
        centre=(
            float(((x + 0.5) * weights).sum() / weights.sum() / side),
            float(((y + 0.5) * weights).sum() / weights.sum() / side),
        ),
        colour=(float(median[0]), float(median[1]), float(median[2])),
        behind=behind,
        contrast=contrast,
        sharpness=_largest(np.hypot(down, right), 0.01) / contrast * side,
        mask=largest,
    )


def components(mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """The connected parts (by sides) of ``mask`` [H, W], each as a mask, in no order."""
    labels = np.zeros(mask.shape, dtype=np.int64)
    parent = [0]

    def root(label: int) -> int:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    for row in range(mask.shape[0]):
        starts, stops = np.flatnonzero(edges[row] == 1), np.flatnonzero(edges[row] == -1)
        for start, stop in zip(starts, stops, strict=True):
            above = np.unique(labels[row - 1, start:stop]) if row else np.zeros(1, np.int64)
            roots = {root(int(label)) for label in above if label}
            if roots:
                label = min(roots)
                for other in roots:
                    parent[other] = label
            else:
                label = len(parent)
                parent.append(label)
            labels[row, start:stop] = label
    final = np.array([root(label) for label in range(len(parent))])[labels]
    return [final == label for label in np.unique(final) if label]


def _background(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """[H, W, 3]: a plane in each channel."""
    height, width = rgb.shape[:2]
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    basis = np.stack(np.broadcast_arrays(np.float32(1), x[None, :], y[:, None]), axis=-1)
    seen = rgb[::_STEP, ::_STEP].reshape(-1, 3)
    at = basis[::_STEP, ::_STEP].reshape(-1, 3)
    is_grey = seen.max(axis=1) - seen.min(axis=1) < _GREYISH
    used = is_grey if is_grey.mean() > 0.4 else np.ones(len(seen), dtype=bool)
    planes = np.zeros((3, 3), dtype=np.float32)
    for _ in range(_FITS):
        planes = np.linalg.lstsq(at[used], seen[used], rcond=None)[0]
        error = np.sqrt(((seen - at @ planes) ** 2).sum(axis=1))
        used = error <= max(_NOISE, 2.5 * float(np.median(error)))
    return np.asarray(basis @ planes, dtype=np.float32)


def _largest(values: NDArray[np.float32], part: float = _LARGEST) -> float:
    """Mean of the largest ``part`` of ``values``."""
    count = max(round(values.size * part), 1)
    return float(np.partition(values.ravel(), -count)[-count:].mean())

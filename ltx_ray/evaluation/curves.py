"""One pass over a video: a few numbers for each frame, from which all but the world's figures are made.

Memory grows by about 1 KB a frame, whatever the size of the frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ltx_ray.errors import MediaError
from ltx_ray.evaluation.frames import Pictures, fitted, luma, scaled
from ltx_ray.evaluation.motion import compensated_differences

# Larger frames are averaged down to this many pixels on the shorter side before anything is measured on them.
SIDE = 512
CELLS = 8  # along each axis: brightness and colour are followed in 8 x 8 cells
_STRONGEST = 0.04  # part of the pixels whose gradients make the energy of the edges
_THUMBNAIL = 96  # pixels of a thumbnail's shorter side
_THUMBNAILS = 2  # a second

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Numbers of n frames, in order."""

    fps: float
    times: Series  # [n] seconds at which each frame appears
    brightness: Series  # [n] mean luma, 0..1
    colour: Series  # [n, 3] mean R, G, B, 0..1
    cells: NDArray[np.float32]  # [n, 64, 3] mean R, G, B of 8 x 8 cells
    bright: Series  # [n] luma that 99% of the pixels do not exceed
    difference: Series  # [n] mean absolute difference to the frame before; 0 for the first
    compensated: Series  # [n] root mean square of the same along the motion (``motion``); 0 for the first two
    edges: Series  # [n] mean square of the strongest 4% of the gradients, 1 / pixel^2
    nonfinite: NDArray[np.int64]  # [n] values that are NaN or infinite
    thumbnails: tuple[NDArray[np.uint8], ...] = field(repr=False)  # two a second

    def __len__(self) -> int:
        return len(self.times)


def measure_curves(pictures: Pictures) -> Curves:
    """Read ``pictures`` once. Raises MediaError where there is no frame."""
    gathering = _Gathering()
    compensated = list(compensated_differences(gathering.frames(pictures)))
    if not gathering.times:
        raise MediaError("a video must hold at least one frame, got none")
    return Curves(
        fps=pictures.fps,
        times=np.array(gathering.times),
        brightness=np.array(gathering.brightness),
        colour=np.array(gathering.cells, dtype=np.float64).mean(axis=1),
        cells=np.array(gathering.cells, dtype=np.float32),
        bright=np.array(gathering.bright),
        difference=np.array(gathering.difference),
        compensated=np.array([0.0, 0.0, *compensated][: len(gathering.times)]),
        edges=np.array(gathering.edges),
        nonfinite=np.array(gathering.nonfinite, dtype=np.int64),
        thumbnails=tuple(gathering.thumbnails),
    )


class _Gathering:
    """Measures each frame as it passes by."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.brightness: list[float] = []
        self.cells: list[NDArray[np.float32]] = []
        self.bright: list[float] = []
        self.difference: list[float] = []
        self.edges: list[float] = []
        self.nonfinite: list[int] = []
        self.thumbnails: list[NDArray[np.uint8]] = []
        self._before: NDArray[np.float32] | None = None

    def frames(self, pictures: Pictures) -> Iterator[NDArray[np.float32]]:
        for picture in pictures.frames(SIDE):
            wrong = int(np.size(picture.rgb) - np.isfinite(picture.rgb).sum())
            rgb = np.nan_to_num(picture.rgb, nan=0.0, posinf=1.0, neginf=0.0)
            self.nonfinite.append(wrong)
            self._take(picture.seconds, rgb)
            yield rgb

    def _take(self, seconds: float, rgb: NDArray[np.float32]) -> None:
        grey = luma(rgb)
        before = grey if self._before is None else self._before
        self.times.append(seconds)
        self.brightness.append(float(grey.mean()))
        self.cells.append(scaled(rgb, CELLS, CELLS).reshape(CELLS * CELLS, 3))
        self.bright.append(float(np.quantile(grey, 0.99)))
        self.difference.append(float(np.abs(grey - before).mean()))
        self.edges.append(edge_energy(rgb))
        if seconds * _THUMBNAILS >= len(self.thumbnails):
            small = scaled(rgb, *fitted(rgb.shape[1], rgb.shape[0], _THUMBNAIL))
            self.thumbnails.append((small.clip(0, 1) * 255).round().astype(np.uint8))
        self._before = grey


def edge_energy(rgb: NDArray[np.float32]) -> float:
    """Mean square of the strongest 4% of the gradients of ``rgb`` [H, W, 3], over all channels, 1 / pixel^2.

    It falls where an edge is blurred. Where one is shown twice, each at half its contrast, it is half as
    much.
    """
    if min(rgb.shape[:2]) < 4:
        return 0.0
    # Over three pixels along and across, so that noise, which is steep too, weighs less.
    across = rgb[:, 2:] - rgb[:, :-2]
    down = rgb[2:] - rgb[:-2]
    right = (across[2:] + across[1:-1] + across[:-2]) / 6
    below = (down[:, 2:] + down[:, 1:-1] + down[:, :-2]) / 6
    energy = (right**2 + below**2).sum(axis=-1).ravel()
    count = max(round(len(energy) * _STRONGEST), 1)
    return float(np.partition(energy, -count)[-count:].mean())

"""The shape of the synthetic world over all frames of a video: where it is, what it looks like, when it is
whole."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.flashes import calm_frames
from ltx_ray.evaluation.frames import Pictures, luma
from ltx_ray.evaluation.world_mask import Sight, look
from ltx_ray.evaluation.world_shape import fits
from ltx_ray.training.world import SHAPES

SIDE = 128  # pixels of the shorter side on which shapes are looked for
_CUT_SIGHTS = 64  # of a shape that the border cuts are kept at most
_NO_MASK = np.zeros((0, 0), dtype=bool)  # masks of all frames would be most of the memory

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The largest shape in each of n frames. Lengths are in short sides of the frame."""

    fps: float
    extent: tuple[float, float]  # width and height of the frame
    times: Points  # [n] seconds
    calm: NDArray[np.bool_]  # [n] not within a flash
    whole: NDArray[np.bool_]  # [n] seen, and not cut by the border
    centres: Points  # [n, 2] x, y
    areas: Points  # [n]; 0 where none is seen
    fits: (
        Points  # [n, 3] how well each of SHAPES covers it (intersection over union); 0 where it is not whole
    )
    counts: NDArray[np.int64]  # [n] shapes of significant area
    colours: Points  # [n, 3] RGB 0..1
    behind: Points  # [n, 3] RGB 0..1, of the background
    sharpness: Points  # [n] steepest edges, contrasts per short side
    cut: tuple[tuple[int, Sight], ...]  # frames, evenly apart, in which the border cuts it

    @property
    def clear(self) -> NDArray[np.bool_]:
        """[n] calm and whole: what positions are measured in."""
        return self.calm & self.whole


def watch(pictures: Pictures) -> Track:
    """The shape in every frame of ``pictures``, which are read once."""
    times, brightness, sights, covers = [], [], [], []
    cut = _Thinned()
    for index, picture in enumerate(pictures.frames(SIDE)):
        sight = look(picture.rgb)
        times.append(picture.seconds)
        brightness.append(float(luma(picture.rgb).mean()))
        covers.append([fit for fit, _ in fits(sight).values()] if sight.is_whole else [0.0] * len(SHAPES))
        if sight.area and not sight.is_whole:
            cut.add(index, sight)
        sights.append(replace(sight, mask=_NO_MASK))
    side = min(pictures.width, pictures.height)
    return Track(
        fps=pictures.fps,
        extent=(pictures.width / side, pictures.height / side),
        times=np.array(times),
        calm=calm_frames(np.array(brightness), pictures.fps),
        whole=np.array([each.is_whole for each in sights]),
        centres=np.array([each.centre for each in sights]),
        areas=np.array([each.area for each in sights]),
        fits=np.array(covers),
        counts=np.array([each.count for each in sights]),
        colours=np.array([each.colour for each in sights]),
        behind=np.array([each.behind for each in sights]),
        sharpness=np.array([each.sharpness for each in sights]),
        cut=tuple(cut.kept),
    )


class _Thinned:
    """Sights evenly apart, at most 64, of a stream of unknown length."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, Sight]] = []
        self._every, self._seen = 1, 0

    def add(self, index: int, sight: Sight) -> None:
        if self._seen % self._every == 0:
            self.kept.append((index, sight))
        self._seen += 1
        if len(self.kept) > _CUT_SIGHTS:
            self.kept = self.kept[::2]
            self._every *= 2

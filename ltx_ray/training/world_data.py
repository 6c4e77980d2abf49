"""The synthetic world as training data: batches that are functions of a step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ltx_ray.training.clips import Clip, ClipSource
from ltx_ray.training.loop import Batch
from ltx_ray.training.world import VERSION, Scene, pair, scene
from ltx_ray.training.world_picture import coverage, render
from ltx_ray.training.world_prompts import prompt
from ltx_ray.training.world_sound import SAMPLE_RATE, render_sound

FPS = 24.0
# Streams of scene numbers, so that no training sees the scenes that another has learnt.
_FIRST_SEED = 1_000_000
# Streams of random numbers of batches (of the world, of a folder), beside those of the scenes.
_STREAM = 0xB0


@dataclass(frozen=True, slots=True)
class Bucket:
    """Clips of one size that are batched together."""

    batch: int
    frames: int
    height: int
    width: int


# About the same work in each: edges, motion and flashes at several sizes.
VAE_BUCKETS = (
    Bucket(8, 17, 64, 64),
    Bucket(4, 17, 96, 96),
    Bucket(12, 9, 64, 64),
    Bucket(3, 17, 96, 128),
    Bucket(4, 9, 128, 96),
    Bucket(3, 25, 96, 96),
    Bucket(1, 17, 192, 160),
)


class WorldClips(Dataset[Batch]):
    """Batch of step n: {"clips": [B, 3, F, H, W] in -1..1}.

    Two fifths of the clips show two shapes, so that there is more to learn in them; one in six is a crop of a
    picture three times as large, for flat colours and straight edges as in large videos.
    """

    def __init__(self, steps: int, seed: int = 0, buckets: Sequence[Bucket] = VAE_BUCKETS) -> None:
        self._steps, self._seed, self._buckets = steps, seed, buckets

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        draw = np.random.default_rng([_STREAM, self._seed, step])
        bucket = self._buckets[int(draw.integers(len(self._buckets)))]
        clips = [self._clip(draw, bucket) for _ in range(bucket.batch)]
        return {"clips": torch.stack(clips).contiguous(memory_format=torch.channels_last_3d)}

    def _clip(self, draw: np.random.Generator, bucket: Bucket) -> Tensor:
        seconds = bucket.frames / FPS
        first, second = (scene(_FIRST_SEED + int(draw.integers(2**40)), seconds) for _ in range(2))
        zoom = 3 if draw.uniform() < 1 / 6 else 1
        height, width = zoom * bucket.height, zoom * bucket.width
        pixels = render(first, bucket.frames, height, width, fps=FPS)
        if draw.uniform() < 0.4:
            over = _over(first, second)
            times = np.arange(bucket.frames) / FPS
            cover = coverage(over, times, height, width)[..., None]
            pixels = pixels * (1 - cover) + render(over, bucket.frames, height, width, fps=FPS) * cover
        top = int(draw.integers(height - bucket.height + 1))
        left = int(draw.integers(width - bucket.width + 1))
        return as_clip(pixels[:, top : top + bucket.height, left : left + bucket.width])


class ClipBatches(Dataset[Batch]):
    """Batch of step n: {"clips": [B, 3, F, H, W] in -1..1} of one of ``sources``."""

    def __init__(self, sources: Sequence[ClipSource], batch: int, steps: int, seed: int = 0) -> None:
        self._sources, self._batch, self._steps, self._seed = sources, batch, steps, seed

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        draw = np.random.default_rng([_STREAM + 1, self._seed, step])
        source = self._sources[int(draw.integers(len(self._sources)))]
        clips = [source[int(index)].pixels for index in draw.integers(len(source), size=self._batch)]
        return {"clips": torch.stack(clips).contiguous(memory_format=torch.channels_last_3d)}


def as_clip(pixels: npt.NDArray[np.float32]) -> Tensor:
    """[F, H, W, 3] in 0..1 as a clip [3, F, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(3, 0, 1, 2) * 2 - 1


def _over(below: Scene, above: Scene) -> Scene:
    """``above`` flashing with ``below``: in one clip there is one sound."""
    return replace(above, onsets=below.onsets)


def example_clips(count: int, bucket: Bucket) -> list[Tensor]:
    """The first ``count`` scenes of the training split, which no training draws, as clips [3, F, H, W]: for
    previews and for statistics. What is held out is for the final figures alone."""
    scenes = (scene(seed, bucket.frames / FPS) for seed in range(count))
    return [as_clip(render(each, bucket.frames, bucket.height, bucket.width, fps=FPS)) for each in scenes]


class WorldSource:
    """``count`` clips of one size as a ``ClipSource``: of scenes from the number ``first`` on. ``paired``: of
    each scene two clips, of two shapes."""

    def __init__(
        self,
        count: int,
        frames: int,
        height: int,
        width: int,
        first: int = 2 * _FIRST_SEED,
        *,
        paired: bool = False,
    ) -> None:
        self._count, self._first, self._paired = count, first, paired
        self._frames, self._height, self._width = frames, height, width

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Clip:
        seconds = self._frames / FPS
        if self._paired:
            each = pair(scene(self._first + index // 2, seconds))[index % 2]
        else:
            each = scene(self._first + index, seconds)
        pixels = render(each, self._frames, self._height, self._width, fps=FPS)
        sound = torch.from_numpy(render_sound(each, seconds))
        return Clip(
            pixels=as_clip(pixels), prompt=prompt(each), sound=sound, sample_rate=SAMPLE_RATE, fps=FPS
        )

    @property
    def fingerprint(self) -> str:
        """Names the clips."""
        kind = "pairs-" if self._paired else ""
        return (
            f"world-{VERSION}-{kind}{self._first}-{self._count}-{self._frames}x{self._height}x{self._width}"
        )

"""Videos as streams of pictures: RGB in 0..1, as small as a measure needs, with the second each is shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ltx_ray.errors import MediaError
from ltx_ray.media.source import open_container, playback_start

_SCALING = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame."""

    seconds: float  # of the video, at which it appears
    rgb: NDArray[np.float32]  # [H, W, 3] in 0..1


class Pictures(Protocol):
    """A video that can be read any number of times, as a stream."""

    @property
    def fps(self) -> float:
        """Frames per second."""

    @property
    def width(self) -> int:
        """Pixels of the video itself."""

    @property
    def height(self) -> int:
        """Pixels of the video itself."""

    def frames(self, side: int | None = None, every: int = 1) -> Iterator[Picture]:
        """Each ``every``-th frame, from the first, averaged down to at most ``side`` pixels on its shorter
        side; None: at full size."""


@dataclass(frozen=True, slots=True)
class VideoPictures:
    """The first video stream of a file (path or fsspec URL)."""

    url: str
    fps: float
    width: int
    height: int
    has_sound: bool

    @classmethod
    def open(cls, url: str) -> "VideoPictures":
        """Raises MediaError where the file is missing, or is no video."""
        with open_container(url, "a video") as container:
            stream = _video_stream(container, url)
            rate = stream.average_rate
            if not rate or not stream.width:
                raise MediaError(f"{url} must hold video of a known rate and size, got neither")
            return cls(url, float(rate), stream.width, stream.height, bool(container.streams.audio))

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return PurePath(self.url).stem

    def frames(self, side: int | None = None, every: int = 1) -> Iterator[Picture]:
        """As ``Pictures`` says. Raises MediaError for data that cannot be decoded."""
        width, height = fitted(self.width, self.height, side)
        reformatter = VideoReformatter()
        with open_container(self.url, "a video") as container:
            stream = _video_stream(container, self.url)
            stream.thread_count = 1
            start = float(playback_start(container))
            for index, frame in enumerate(container.decode(stream)):
                if index % every:
                    continue
                shown = index / self.fps if frame.time is None else frame.time - start
                yield Picture(shown, _rgb(reformatter, frame, width, height))


@dataclass(frozen=True, slots=True)
class ArrayPictures:
    """A video in memory: [F, H, W, 3] in 0..1, any real dtype; it may hold NaN."""

    pixels: NDArray[np.floating]
    fps: float

    @property
    def width(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[2])

    @property
    def height(self) -> int:
        """Pixels."""
        return int(self.pixels.shape[1])

    def frames(self, side: int | None = None, every: int = 1) -> Iterator[Picture]:
        """As ``Pictures`` says."""
        width, height = fitted(self.width, self.height, side)
        for index in range(0, len(self.pixels), every):
            rgb = self.pixels[index].astype(np.float32)
            yield Picture(index / self.fps, rgb if side is None else scaled(rgb, width, height))


def count_frames(url: str) -> int:
    """Frames of a video file, by its packets. Raises MediaError where it is missing, or no video."""
    with open_container(url, "a video") as container:
        return sum(packet.size > 0 for packet in container.demux(_video_stream(container, url)))


def fitted(width: int, height: int, side: int | None) -> tuple[int, int]:
    """``width`` and ``height`` in the same ratio, with at most ``side`` pixels on the shorter side."""
    if side is None or min(width, height) <= side:
        return width, height
    ratio = side / min(width, height)
    return round(width * ratio), round(height * ratio)


def scaled(rgb: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """``rgb`` [H, W, 3], averaged over areas to ``width`` x ``height``; as it is where it has that size."""
    if rgb.shape[:2] == (height, width):
        return rgb
    planes = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
    small = F.interpolate(planes, size=(height, width), mode="area")[0].permute(1, 2, 0)
    return np.ascontiguousarray(small.numpy())


def luma(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brightness [..., H, W] of ``rgb`` [..., H, W, 3] (ITU-R BT.709)."""
    return rgb @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def _rgb(reformatter: VideoReformatter, frame: VideoFrame, width: int, height: int) -> NDArray[np.float32]:
    # What is not said is taken to be what the renderer writes: BT.709 of television range.
    matrix = frame.colorspace if frame.colorspace in _MATRICES else Colorspace.ITU709
    full = frame.color_range == ColorRange.JPEG
    picture = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_SCALING,
        threads=1,
    )
    return np.asarray(picture.to_ndarray(), dtype=np.float32) / np.float32(255)


_MATRICES = {int(Colorspace.ITU709), int(Colorspace.ITU601), int(Colorspace.SMPTE170M)}


def _video_stream(container: InputContainer, url: str) -> VideoStream:
    found = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not found:
        raise MediaError(f"{url} must hold video, got none")
    return found[0]

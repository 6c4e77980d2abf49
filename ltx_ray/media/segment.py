"""One slab's frames as a closed-GOP H.264 segment: an MP4 file whose packets can be joined by copying.

Every segment of a shot is encoded with the same settings, so all carry the same SPS and PPS. Its timestamps
count frames from 0. The bytes depend on the frames, the rate and the EncodingConfig only.
"""

import ctypes
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ltx_ray.config import EncodingConfig
from ltx_ray.errors import MediaError, StorageError

# Swscale's defaults round coarsely and read every second chroma column only.
# Bit-exact: the same on every CPU.
_SCALING = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
)


def frame_rate(fps: float) -> Fraction:
    """Frames per second as the exact fraction that files carry (23.976 is 2997/125, 24000/1001 stays).

    Raises MediaError where there is none with a denominator up to 1001.
    """
    rate = Fraction(fps).limit_denominator(1001) if 0 < fps < 1000 else Fraction(0)
    if rate <= 0:
        raise MediaError(f"fps must be above 0.001 and below 1000, got {fps}")
    return rate


def _return_freed_memory() -> None:
    """Give the pages that the last encoder freed back to the system.

    glibc keeps them, in pieces that the next encoder does not quite fit: measured, some 90 MB more after 40
    segments of 1080p, and nothing more with this call. Other C libraries have no such call, and no such need.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class SegmentWriter:
    """Encodes frames, one at a time, into one segment. Memory does not grow with their number.

    To be used as a context manager; what a failed block wrote is removed.
    """

    def __init__(
        self, path: Path, width: int, height: int, fps: float, first_frame: int, encoding: EncodingConfig
    ) -> None:
        """Open ``path``, to be overwritten.

        ``width`` and ``height`` are even pixels; ``first_frame`` is the shot's frame that the segment begins
        with, for messages. Raises MediaError for a size, rate or setting that H.264 does not take,
        StorageError where the file cannot be made.
        """
        if width < 2 or height < 2 or width % 2 or height % 2:
            raise MediaError(f"H.264 needs an even width and height of at least 2, got {width}x{height}")
        self._path = path
        self._shape = (height, width, 3)
        self._first_frame = first_frame
        self._count = 0
        self._closed = False
        self._rate = frame_rate(fps)
        self._threads = encoding.threads
        self._reformatter = VideoReformatter()
        self._container = self._open()
        try:
            self._stream = self._start(encoding)
        except OSError as error:
            self._discard()
            raise self._not_written(error) from error
        except FFmpegError as error:
            self._discard()
            raise MediaError(
                f"{encoding.codec} must take {width}x{height} at {fps} fps with preset {encoding.preset!r}, "
                f"got: {error}"
            ) from error

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Encode the next frame: uint8 RGB ``[H, W, 3]``, full range.

        Raises MediaError for another shape or type, StorageError where the file cannot be written.
        """
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise MediaError(
                f"frame {self._first_frame + self._count} of {self._path} must be uint8 of shape "
                f"{list(self._shape)}, got {frame.dtype} {list(frame.shape)}"
            )
        self._mux(self._picture(frame))
        self._count += 1

    def close(self) -> None:
        """Finish the file; closing again does nothing.

        Raises MediaError where no frame was written, StorageError where writing fails.
        """
        if self._closed:
            return
        self._closed = True
        if not self._count:
            self._discard()
            raise MediaError(f"a segment must hold at least one frame, got none for {self._path}")
        self._mux(None)
        try:
            self._container.close()
        except OSError as error:
            raise self._not_written(error) from error
        _return_freed_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def _open(self) -> OutputContainer:
        try:
            # Bit-exact: the muxer leaves its version and the time of day out.
            return av.open(str(self._path), "w", format="mp4", options={"fflags": "+bitexact"})
        except OSError as error:
            raise self._not_written(error) from error

    def _start(self, encoding: EncodingConfig) -> VideoStream:
        height, width, _ = self._shape
        keyint = max(1, round(encoding.keyframe_seconds * self._rate))
        # cpu-independent: x264's AVX2 code for macroblock trees reads what nobody wrote, where the width
        # is no multiple of 64 or so; the same frames gave other bytes from process to process.
        options = {
            "crf": str(encoding.crf),
            "preset": encoding.preset,
            "x264-params": f"open-gop=0:keyint={keyint}:sliced-threads=0:cpu-independent=1",
        }
        stream = self._container.add_stream(encoding.codec, rate=self._rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_count = encoding.threads
        context.time_base = 1 / self._rate
        # H.264 numbers the matrix BT.709 as swscale does.
        context.colorspace = Colorspace.ITU709
        context.color_primaries = ColorPrimaries.BT709
        context.color_trc = ColorTrc.BT709
        context.color_range = ColorRange.MPEG
        self._container.start_encoding()
        return stream

    def _picture(self, frame: NDArray[np.uint8]) -> VideoFrame:
        picture = self._reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24"),
            format="yuv420p",
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALING,
            threads=self._threads,
        )
        picture.pts = self._count
        picture.time_base = 1 / self._rate
        return picture

    def _mux(self, picture: VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except OSError as error:
            raise self._not_written(error) from error

    def _discard(self) -> None:
        try:
            self._container.close()
        except (FFmpegError, OSError):
            # The file is thrown away; what matters is the error that led here.
            pass
        if self._path.is_file():
            self._path.unlink()

    def _not_written(self, error: OSError) -> StorageError:
        return StorageError(f"could not write {self._path}: {error}; check disk space and permissions")

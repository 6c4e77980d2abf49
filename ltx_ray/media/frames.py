"""Frames of any video file, at exact times and of the size asked for.

Time zero is where playback of the file begins, as in ``media.audio``: the earliest start of its audio and
video streams. A picture and a sound that are read from the same second belong together.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, dropwhile

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from ltx_ray.errors import MediaError
from ltx_ray.media.image import fit_image
from ltx_ray.media.source import films, open_container, playback_start

_WANTED = "a video"
# Seconds before the wanted time that are sought, until what is decoded begins early enough; None: the file's
# beginning. Indexes may hold times of decoding, which are some frames before those of showing.
_MARGINS_S = (0, 1, 10, None)
# A beginning as short as this is decoded, not sought in.
_NEAR_S = 1
# How much longer than its frames a header may say that a video is: for so long the last frame is held.
_HELD_S = Fraction(1, 10)
# Swscale's defaults round coarsely.
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@dataclass(frozen=True, slots=True)
class Footage:
    """When a file shows pictures, and whether it sounds."""

    begin: Fraction  # second of playback at which the first frame is shown
    end: Fraction  # second of playback at which the last frame ends
    frame_seconds: Fraction  # how long a frame is usually shown; 0: the file does not say
    has_sound: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A decoded frame and the seconds of playback in which it is shown."""

    frame: VideoFrame
    begin: Fraction
    end: Fraction
    aspect: Fraction  # width of a pixel over its height


def probe_footage(url: str) -> Footage:
    """What a file's headers say; where they do not say a length, its last packets are read. Decodes nothing.

    Raises MediaError where the file is missing, is no media or holds no video.
    """
    with open_container(url, _WANTED) as container:
        stream = _video_stream(container, url)
        origin = playback_start(container)
        begin = _seconds(stream.start_time, stream)
        end = begin + _seconds(stream.duration, stream) if stream.duration else _last_end(container, stream)
        if end <= begin:
            raise MediaError(
                f"{url} must hold video that says when its frames are shown, got none; convert it to MP4"
            )
        has_sound = bool(container.streams.audio)
        return Footage(begin - origin, end - origin, _usual_length(stream), has_sound)


def read_frames(
    url: str, start: Fraction, count: int, rate: Fraction, *, height: int, width: int
) -> NDArray[np.uint8]:
    """Frames uint8 RGB [count, height, width, 3]; frame f is what is shown at ``start + f / rate`` seconds.

    That is the frame that begins nearest to that time (the earlier of two), but none that begins more than
    half a wanted frame later: a picture that the file shows for long is not replaced early. Frames are
    turned upright, scaled (Lanczos) to cover ``height`` x ``width`` pixels and cropped at the centre.
    Decoding begins at a keyframe before ``start``.

    Raises MediaError where the file is missing, broken or without video, or ends before the last frame.
    """
    times = [start + index / rate for index in range(count)]
    pixels = np.empty((count, height, width, 3), np.uint8)
    with _shown_from(url, start) as frames:
        before = None
        for index, shown in enumerate(_nearest(frames, times, 1 / rate, url)):
            if shown is before:
                pixels[index] = pixels[index - 1]
            else:
                pixels[index] = fit_image(_upright(shown), width, height, url)
            before = shown
    return pixels


def _nearest(
    frames: Iterator[_Shown], times: Sequence[Fraction], step: Fraction, url: str
) -> Iterator[_Shown]:
    """For each of the rising ``times``, ``step`` seconds apart, the frame that is shown then."""
    shown = next(frames, None)
    if shown is None:
        raise MediaError(f"{url} must hold at least one frame of video, got none; is the file whole?")
    following = next(frames, None)
    for time in times:
        while following is not None and _is_nearer(following.begin - time, time - shown.begin, step):
            shown, following = following, next(frames, None)
        if following is None and time >= shown.end + _HELD_S:
            raise MediaError(
                f"{url} must have a picture at {float(time):.3f} s, as its header says, got a last frame "
                f"that ends at {float(shown.end):.3f} s; is the file whole? Copy it anew or convert it"
            )
        yield shown


def _is_nearer(ahead: Fraction, behind: Fraction, step: Fraction) -> bool:
    """Whether the frame that begins ``ahead`` is to be shown, or stays the one that began ``behind``."""
    return ahead < behind and ahead <= step / 2


@contextmanager
def _shown_from(url: str, time: Fraction) -> Iterator[Iterator[_Shown]]:
    """Frames in the order of showing, the first of which begins not later than ``time``, if any does."""
    for margin in _MARGINS_S if time > _NEAR_S else (None,):
        with open_container(url, _WANTED) as container:
            stream = _video_stream(container, url)
            origin = playback_start(container)
            if margin is not None and not _seek(container, stream, origin + time - margin):
                continue
            frames = _decoded(container, stream, url)
            if margin is not None:
                # Those before a keyframe lean on frames that were not decoded.
                frames = dropwhile(lambda frame: not frame.key_frame, frames)
            timed = _timed(frames, stream, origin, url)
            first = next(timed, None)
            if margin is None or (first is not None and first.begin <= time):
                yield chain([] if first is None else [first], timed)
                return


def _seek(container: InputContainer, stream: VideoStream, second: Fraction) -> bool:
    """Go to the keyframe before a second of the container's clock; whether the container can."""
    try:
        container.seek(int(second / _time_base(stream)), stream=stream)
    except FFmpegError:
        return False
    return True


def _decoded(container: InputContainer, stream: VideoStream, url: str) -> Iterator[VideoFrame]:
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise MediaError(f"{url} must be whole, got damaged data in its pictures; copy it anew")
        yield from packet.decode()


def _timed(frames: Iterator[VideoFrame], stream: VideoStream, origin: Fraction, url: str) -> Iterator[_Shown]:
    usual = _usual_length(stream)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    for frame in frames:
        if frame.pts is None:
            raise MediaError(
                f"{url} must say when its frames are shown, got one without a time; convert it to MP4"
            )
        base = frame.time_base or _time_base(stream)
        begin = frame.pts * base - origin
        length = frame.duration * base if frame.duration else usual
        yield _Shown(frame, begin, begin + length, aspect)


def _upright(shown: _Shown) -> Image.Image:
    """A decoded frame as it is looked at: RGB, square pixels, turned as the file says."""
    width = max(1, round(shown.frame.width * shown.aspect))
    pixels = shown.frame.to_ndarray(format="rgb24", width=width, interpolation=_SCALING)
    quarter_turns = round(shown.frame.rotation / 90)
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, quarter_turns)))


def _video_stream(container: InputContainer, url: str) -> VideoStream:
    for stream in films(container):
        return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"
    raise MediaError(f"{url} must have a video stream, got {kinds}; name a file with moving pictures")


def _last_end(container: InputContainer, stream: VideoStream) -> Fraction:
    """Second of the container's clock at which the last frame ends; 0 where no frame has a time."""
    begin = Fraction(container.start_time or 0, av.time_base)
    last = begin + Fraction(container.duration or 0, av.time_base)
    usual = _usual_length(stream)
    # Some containers find nothing at their end; then all packets are read.
    for second in (last, begin):
        _seek(container, stream, second)
        ends = [
            _seconds(packet.pts, stream) + (_seconds(packet.duration, stream) if packet.duration else usual)
            for packet in container.demux(stream)
            if packet.pts is not None
        ]
        if ends:
            return max(ends)
    return Fraction(0)


def _usual_length(stream: VideoStream) -> Fraction:
    """Seconds that a frame is shown where it does not say so itself; 0 where nothing says so."""
    return 1 / stream.average_rate if stream.average_rate else Fraction(0)


def _seconds(ticks: int | None, stream: Stream) -> Fraction:
    return (ticks or 0) * _time_base(stream)


def _time_base(stream: Stream) -> Fraction:
    return stream.time_base or Fraction(1, av.time_base)

"""Videos for tests: frames that carry their number, sound that carries its time."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

RATE = 48_000
_BITS = 8
_BLOCK = 960


def numbered(index: int, height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """A frame [H, W, 3] that carries its number: eight upright bars, bright for one and dark for zero."""
    frame = np.full((height, width, 3), 16, np.uint8)
    bar = width // _BITS
    for bit in range(_BITS):
        if index >> bit & 1:
            frame[:, bit * bar : (bit + 1) * bar] = 235
    return frame


def frames_of(count: int) -> list[tuple[int, NDArray[np.uint8]]]:
    """Numbered frames and their times, for ``write_video``."""
    return [(index, numbered(index)) for index in range(count)]


def number_of(pixels: NDArray[np.uint8]) -> int:
    """The number that a frame [H, W, 3] carries."""
    bar = pixels.shape[1] // _BITS
    return sum(
        1 << bit for bit in range(_BITS) if pixels[:, bit * bar + 2 : (bit + 1) * bar - 2].mean() > 127
    )


def clicks(seconds: float, times: Iterable[float]) -> NDArray[np.float32]:
    """Silence [samples] at RATE with a click of 5 ms of noise beginning at each of ``times``."""
    wave = np.zeros(round(seconds * RATE), np.float32)
    burst = np.random.default_rng(0).uniform(-0.8, 0.8, RATE // 200)
    for time in times:
        wave[round(time * RATE) :][: len(burst)] = burst[: len(wave) - round(time * RATE)]
    return wave


def write_video(
    path: Path,
    frames: Iterable[tuple[int, NDArray[np.uint8]]],
    fps: float = 24,
    sound: NDArray[np.float32] | None = None,
    *,
    codec: str = "libx264",
    audio_codec: str = "aac",
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    prepare: Callable[[VideoStream], None] = lambda stream: None,
) -> Path:
    """Write ``frames``, pairs of a time in frames and RGB [H, W, 3], and ``sound`` [channels, samples]."""
    rate = Fraction(fps).limit_denominator(1001)
    pairs = list(frames)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pairs[0][1].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        stream.codec_context.thread_count = 1
        prepare(stream)
        track = None if sound is None else _track(container, audio_codec, sound)
        for time, pixels in pairs:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = time, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None and sound is not None:
            _encode(container, track, sound)
    return path


def _track(container: OutputContainer, codec: str, sound: NDArray[np.float32]) -> av.AudioStream:
    return container.add_stream(codec, rate=RATE, layout="mono" if len(sound) == 1 else "stereo")


def _encode(container: OutputContainer, track: av.AudioStream, sound: NDArray[np.float32]) -> None:
    for first in range(0, sound.shape[1], _BLOCK):
        block = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound[:, first : first + _BLOCK]), format="fltp", layout=track.layout.name
        )
        block.sample_rate, block.pts, block.time_base = RATE, first, Fraction(1, RATE)
        container.mux(track.encode(block))
    container.mux(track.encode(None))

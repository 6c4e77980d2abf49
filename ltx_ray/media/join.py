"""Segments and sound -> the finished MP4. Video packets are copied, never encoded again.

Segments are closed GOPs of known length, so the k-th packet (in decoding order) of the whole video is decoded
in the k-th frame's time, less one constant delay that lets B-frames be shown late enough. Timestamps of the
segments are used only to find the order in which frames are shown: x264 gives segments of one or two frames
another delay, so their decoding times would collide.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ltx_ray.config import EncodingConfig
from ltx_ray.errors import ConfigError, MediaError, StorageError
from ltx_ray.media.segment import frame_rate

AAC_FRAME = 1024  # samples of one AAC packet


def join_segments(
    segments: Sequence[Path],
    num_frames: Sequence[int],
    output: Path,
    fps: float,
    audio: NDArray[np.float32] | None,
    encoding: EncodingConfig,
) -> None:
    """Write ``output``: an MP4 of the segments in order, with the sound encoded once as AAC, index in front.

    ``num_frames[i]`` is what ``segments[i]`` must hold. ``audio`` is float32 ``[channels (1 or 2), samples]``
    at ``encoding.audio_rate``, as long as the video; a difference of up to one AAC frame, as rounding makes
    it, is cut or filled with silence. The same input gives the same bytes.

    Raises MediaError where a segment is missing, broken, of another length or encoded otherwise than the
    first, or where the sound does not fit; ConfigError for a rate that AAC does not know; StorageError where
    ``output`` cannot be written. What a failed call wrote is removed.
    """
    rate = frame_rate(fps)
    delay = _check_segments(segments, num_frames, rate)
    sound = None if audio is None else _fitted(audio, sum(num_frames) / rate, encoding.audio_rate)
    try:
        _write(segments, rate, delay, output, sound, encoding)
    except BaseException:
        if output.is_file():
            output.unlink()
        raise


def _check_segments(segments: Sequence[Path], num_frames: Sequence[int], rate: Fraction) -> int:
    """Frames by which decoding must run ahead of showing, over all segments, which are checked on the way."""
    if not segments or len(segments) != len(num_frames):
        raise MediaError(
            f"a video needs at least one segment and one length for each, "
            f"got {len(segments)} segments and {len(num_frames)} lengths"
        )
    delay = 0
    header: bytes | None = None
    for path, wanted in zip(segments, num_frames, strict=True):
        with _opened(path) as container:
            stream = _video_stream(container, path)
            order = [_shown_at(packet, rate, path) for packet in _packets(container, stream, path)]
            extradata = stream.codec_context.extradata
        if sorted(order) != list(range(wanted)):
            raise MediaError(f"segment {path} must hold exactly {wanted} frames, got {len(order)}")
        header = extradata if header is None else header
        if extradata != header:
            raise MediaError(f"segment {path} must be encoded as {segments[0]} is, got another H.264 header")
        delay = max(delay, *(index - shown for index, shown in enumerate(order)))
    return delay


def _write(
    segments: Sequence[Path],
    rate: Fraction,
    delay: int,
    output: Path,
    sound: NDArray[np.float32] | None,
    encoding: EncodingConfig,
) -> None:
    options = {
        "movflags": "+faststart",
        # Leaves the muxer's version and the time of day out.
        "fflags": "+bitexact",
        "movie_timescale": str(_movie_timescale(rate, encoding.audio_rate)),
    }
    try:
        with av.open(str(output), "w", format="mp4", options=options) as container:
            video = _copied_stream(container, segments[0], rate)
            track = None if sound is None else _SoundTrack(container, sound, encoding)
            for index, packet in enumerate(_joined(segments, rate, delay)):
                if track is not None:
                    track.encode_until(index / rate)
                packet.stream = video
                container.mux(packet)
            if track is not None:
                track.finish()
    except OSError as error:
        raise StorageError(
            f"could not write the video {output}: {error}; check its disk's space and permissions"
        ) from error
    except FFmpegError as error:
        raise MediaError(f"{output} could not be joined of {len(segments)} segments: {error}") from error


def _joined(segments: Sequence[Path], rate: Fraction, delay: int) -> "Iterator[Packet[VideoStream]]":
    """All packets, in decoding order, timed in frames of the whole video."""
    index = 0
    for path in segments:
        with _opened(path) as container:
            first = index
            for packet in _packets(container, _video_stream(container, path), path):
                packet.pts = first + _shown_at(packet, rate, path)
                packet.dts = index - delay
                packet.duration = 1
                packet.time_base = 1 / rate
                index += 1
                yield packet


def _copied_stream(container: OutputContainer, segment: Path, rate: Fraction) -> VideoStream:
    with _opened(segment) as template:
        stream = container.add_stream_from_template(_video_stream(template, segment))
    stream.time_base = 1 / rate
    return stream


class _SoundTrack:
    """The AAC track, encoded block by block in step with the video, so that neither waits in memory."""

    def __init__(
        self, container: OutputContainer, sound: NDArray[np.float32], encoding: EncodingConfig
    ) -> None:
        self._container = container
        self._sound = sound
        self._rate = encoding.audio_rate
        self._layout = "mono" if sound.shape[0] == 1 else "stereo"
        self._done = 0  # samples
        known = av.codec.Codec("aac", "w").audio_rates or []
        if self._rate not in known:
            raise ConfigError(f"encoding.audio_rate must be one of {sorted(known)} for AAC, got {self._rate}")
        # Bit-exact: without the encoder's version in the stream.
        self._stream = container.add_stream(
            "aac", rate=self._rate, options={"flags": "+bitexact"}, layout=self._layout
        )
        self._stream.bit_rate = encoding.audio_bitrate

    def encode_until(self, second: Fraction) -> None:
        """Encode and mux all sound that begins before ``second`` of the video."""
        while self._done < self._sound.shape[1] and Fraction(self._done, self._rate) <= second:
            block = np.ascontiguousarray(self._sound[:, self._done : self._done + AAC_FRAME])
            frame = AudioFrame.from_ndarray(block, format="fltp", layout=self._layout)
            frame.sample_rate = self._rate
            frame.time_base = Fraction(1, self._rate)
            frame.pts = self._done
            self._done += block.shape[1]
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encode the rest."""
        self.encode_until(Fraction(self._sound.shape[1], self._rate))
        self._container.mux(self._stream.encode(None))


def _fitted(audio: NDArray[np.float32], seconds: Fraction, rate: int) -> NDArray[np.float32]:
    if audio.ndim != 2 or audio.shape[0] not in (1, 2) or audio.dtype != np.float32:
        raise MediaError(
            f"sound must be float32 [1 or 2 channels, samples], got {audio.dtype} {list(audio.shape)}"
        )
    wanted = round(seconds * rate)
    missing = wanted - audio.shape[1]
    if abs(missing) > AAC_FRAME:
        raise MediaError(
            f"sound must be as long as the video, {wanted} samples at {rate} Hz, got {audio.shape[1]}"
        )
    return np.pad(audio, ((0, 0), (0, missing))) if missing > 0 else audio[:, :wanted]


def _movie_timescale(rate: Fraction, audio_rate: int) -> int:
    """Ticks per second in which the lengths of both tracks are whole numbers.

    MP4 edit lists cut the tracks to their length in these ticks; the default of 1000 would cut into the last
    frame. Where no such number fits the format, the video's is exact and the sound is off by a tick.
    """
    both = math.lcm(rate.numerator, audio_rate)
    return both if both < 2**31 else rate.numerator


def _opened(path: Path) -> InputContainer:
    try:
        return av.open(str(path), "r")
    except FileNotFoundError as error:
        raise MediaError(f"segment {path} must exist, got no such file") from error
    except (FFmpegError, OSError) as error:
        raise MediaError(f"segment {path} must be a whole MP4 file, got: {error}") from error


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise MediaError(f"segment {path} must hold video, got none")
    return container.streams.video[0]


def _packets(container: InputContainer, stream: VideoStream, path: Path) -> "Iterator[Packet[VideoStream]]":
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise MediaError(f"segment {path} must be whole, got a truncated file")
        if packet.size:
            yield packet


def _shown_at(packet: "Packet[VideoStream]", rate: Fraction, path: Path) -> int:
    """The frame of its segment that a packet holds."""
    position = None if packet.pts is None else packet.pts * packet.time_base * rate
    if position is None or position.denominator != 1:
        raise MediaError(f"segment {path} must have whole frames at {rate} fps, got one at frame {position}")
    return int(position)

"""Sound of any media file, cut out at exact samples.

Time zero is where playback of the file begins: the earliest start of its audio and video streams, after the
encoder's priming. Positions come from the timestamps of decoded frames, so a skipped beginning, a late audio
stream and gaps are where a player would put them.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from ltx_ray.errors import MediaError
from ltx_ray.media.access import TRUSTED, Access
from ltx_ray.media.source import open_container, playback_start
from ltx_ray.redact import redacted

# Packets that end earlier than this before the cut are not decoded. Long enough for every codec's memory
# (Opus asks for 80 ms, MP3's bit reservoir for some 10 frames of 26 ms).
PREROLL_S = 1
_WANTED = "an audio file, or a video with sound"

# Samples per second that a sound may have. A block of few a second would be resampled to gigabytes.
_RATES = (1_000, 1_000_000)

# Timestamps of some containers are whole milliseconds: a smaller jump than this is rounding, not a gap.
GAP_S = Fraction(1, 100)


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What a file's first audio stream is."""

    seconds: float | None  # length; None where the container does not say
    rate: int  # samples per second
    channels: int


def probe_audio(url: str, access: Access = TRUSTED) -> AudioFacts:
    """Facts of the first audio stream of a media file; its first frame is decoded to be sure.

    Raises MediaError where the file is missing, is not media, or has no audio that can be decoded.
    """
    with open_container(url, _WANTED, access) as container:
        stream = _audio_stream(container, url, access)
        frame = next(_decoded(container, stream, None, url, access), None)
        if frame is None:
            raise MediaError(f"{redacted(url)} must hold sound, got an audio stream without a single sample")
        return AudioFacts(_seconds(container, stream), frame.sample_rate, frame.layout.nb_channels)


def read_audio(
    url: str, start_s: float, seconds: float, rate: int, access: Access = TRUSTED
) -> NDArray[np.float32]:
    """Decode the ``seconds`` of sound that begin ``start_s`` seconds into a media file.

    Returns float32 ``[channels, samples]`` with channels 1 or 2 (more are mixed down to stereo, without
    exceeding full scale) and exactly ``round(seconds * rate)`` samples at ``rate`` per second; what lies
    beyond the end of the file is silence. The file is decoded as a stream.

    Raises MediaError where the file is missing, broken or has no audio, or where the cut is impossible.
    """
    if not (0 <= start_s < math.inf and 0 <= seconds < math.inf and rate > 0):
        raise MediaError(
            f"a cut of {redacted(url)} needs finite start_s, seconds >= 0, rate > 0, "
            f"got {start_s}, {seconds}, {rate}"
        )
    with open_container(url, _WANTED, access) as container:
        stream = _audio_stream(container, url, access)
        cut = _Cut(min(stream.channels, 2), round(start_s * rate), round(seconds * rate), rate)
        _fill(cut, container, stream, Fraction(start_s), url, access)
    if not np.isfinite(cut.samples).all():
        raise MediaError(
            f"{redacted(url)} must hold finite samples, got NaN or infinity in the sound; convert it anew"
        )
    return cut.samples


class _Cut:
    """The wanted part of a sound: float32 ``[channels, samples]``, silent where nothing was put."""

    def __init__(self, channels: int, start: int, samples: int, rate: int) -> None:
        self.samples = np.zeros((channels, samples), np.float32)
        self.layout = "mono" if channels == 1 else "stereo"
        self.start = start
        self.stop = start + samples
        self.rate = rate

    def put(self, position: int, block: NDArray[np.float32]) -> None:
        """Place ``block`` ``[channels, n]``, whose first sample is the file's sample ``position``."""
        first = max(position, self.start)
        last = min(position + block.shape[1], self.stop)
        if first < last:
            self.samples[:, first - self.start : last - self.start] = block[
                :, first - position : last - position
            ]


class _Run:
    """A run of frames without a gap, all of one format, resampled into a cut.

    Only the run's first frame is placed by its timestamp: placing each would click wherever they are rounded.
    """

    def __init__(self, cut: _Cut, first: AudioFrame, begin: Fraction) -> None:
        self.position = round(begin * cut.rate)  # of the next resampled sample, in the file
        self._cut = cut
        self._format = _format(first)
        self._end = begin  # second of the file at which the next frame should begin
        # Without the bound, loud surround sound mixed down to two channels would exceed full scale and clip.
        self._resampler = av.AudioResampler(
            format="fltp", layout=cut.layout, rate=cut.rate, options={"rematrix_maxval": "1"}
        )

    def continues(self, frame: AudioFrame, begin: Fraction | None) -> bool:
        """Whether ``frame``, which begins at that second of the file, follows without a gap."""
        return _format(frame) == self._format and (begin is None or abs(begin - self._end) <= GAP_S)

    def push(self, frame: AudioFrame) -> None:
        """Resample the next frame of the run."""
        self._end += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None
        self._put(self._resampler.resample(frame))

    def finish(self) -> None:
        """Put what the resampler's filter still holds."""
        self._put(self._resampler.resample(None))

    def _put(self, frames: Sequence[AudioFrame | None]) -> None:
        for frame in frames:
            # A resampler that has nothing to convert hands a flush (None) straight through.
            if frame is not None:
                block = np.asarray(frame.to_ndarray(), np.float32)
                self._cut.put(self.position, block)
                self.position += block.shape[1]


def _fill(
    cut: _Cut, container: InputContainer, stream: AudioStream, start_s: Fraction, url: str, access: Access
) -> None:
    origin = playback_start(container)
    run: _Run | None = None
    for frame in _decoded(container, stream, origin + start_s - PREROLL_S, url, access):
        begin = None if frame.pts is None else frame.pts * _time_base(frame) - origin
        if run is None or not run.continues(frame, begin):
            if run is not None:
                run.finish()
            if begin is None:
                begin = Fraction(run.position, cut.rate) if run else Fraction(0)
            run = _Run(cut, frame, begin)
        run.push(frame)
        if run.position >= cut.stop:
            return
    if run is not None:
        run.finish()


def _decoded(
    container: InputContainer, stream: AudioStream, after: Fraction | None, url: str, access: Access
) -> Iterator[AudioFrame]:
    """Decoded frames; packets that end before the second ``after`` of the stream are passed over unread."""
    until = time.monotonic() + access.limits.decode_seconds
    for packet in container.demux(stream):
        if time.monotonic() > until:
            raise MediaError(
                f"{redacted(url)} must be decoded within {access.limits.decode_seconds:g} s "
                "(inputs.decode_seconds of the config), got more than that; cut out what is needed"
            )
        if packet.is_corrupt:
            raise MediaError(f"{redacted(url)} must be whole, got damaged data in its sound; copy it anew")
        if after is not None and packet.pts is not None and packet.duration:
            if (packet.pts + packet.duration) * packet.time_base < after:
                continue
        for frame in packet.decode():
            _check_rate(frame.sample_rate, url)
            if frame.samples:
                yield frame


def _check_rate(rate: int, url: str) -> None:
    low, high = _RATES
    if not low <= rate <= high:
        raise MediaError(
            f"{redacted(url)} must have {low:,} to {high:,} samples a second, got {rate:,}; convert it anew"
        )


def _audio_stream(container: InputContainer, url: str, access: Access) -> AudioStream:
    if not container.streams.audio:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream at all"
        raise MediaError(f"{redacted(url)} must have an audio stream, got {kinds}; name a file with sound")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{redacted(url)} must hold sound of a known codec, got another; convert it to WAV")
    if not stream.rate or not stream.channels:
        raise MediaError(
            f"{redacted(url)} must hold sound with a rate and 1 to 512 channels, got {stream.rate} samples a "
            f"second and {stream.channels or 'none, or more'} channels; convert it anew"
        )
    _check_rate(stream.rate, url)
    limits, seconds = access.limits, _seconds(container, stream)
    if stream.channels > limits.max_audio_channels:
        raise MediaError(
            f"{redacted(url)} must have at most {limits.max_audio_channels} channels of sound "
            f"(inputs.max_audio_channels of the config), got {stream.channels}"
        )
    if seconds is not None and seconds > limits.max_audio_seconds:
        raise MediaError(
            f"{redacted(url)} must last at most {limits.max_audio_seconds:g} s (inputs.max_audio_seconds of "
            f"the config), got {seconds:.0f} s; cut out what is needed"
        )
    return stream


def _seconds(container: InputContainer, stream: AudioStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return container.duration / av.time_base
    return None


def _format(frame: AudioFrame) -> tuple[Any, ...]:
    return frame.sample_rate, frame.layout.name, frame.format.name


def _time_base(frame: AudioFrame) -> Fraction:
    return frame.time_base or Fraction(1, frame.sample_rate)

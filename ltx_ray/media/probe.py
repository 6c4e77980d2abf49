"""What a video file holds, counted, not believed."""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError

from ltx_ray.errors import MediaError


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The facts of one video file."""

    num_frames: int  # counted
    fps: float  # frames per second
    width: int  # pixels
    height: int  # pixels
    seconds: float  # length of the video stream as it plays
    audio_seconds: float | None  # length of the audio stream as it plays; None without one
    bytes: int  # size of the file


def probe_video(path: Path) -> VideoFacts:
    """Read all packets of a video file, without decoding them, and say what it holds.

    Lengths are those of playback. AAC needs 1024 samples of priming in front and fills its last packet up;
    the MP4's edit list tells players to skip the one, and the last packet's duration ends the other, so
    ``audio_seconds`` is exact though the packets decode to up to 1023 samples more.

    Raises MediaError where the file is missing, unreadable, without video, or truncated.
    """
    try:
        with av.open(str(path), "r") as container:
            return _facts(container, path)
    except FileNotFoundError as error:
        raise MediaError(f"a video must be an existing file, got {path}: no such file") from error
    except (FFmpegError, OSError) as error:
        raise MediaError(f"{path} must be a whole video file, got: {error}") from error


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(container: InputContainer, path: Path) -> VideoFacts:
    counts = _count_packets(container, path)
    if not container.streams.video:
        raise MediaError(f"{path} must hold video, got none; is the file truncated?")
    video = container.streams.video[0]
    rate = video.average_rate
    if not counts[video.index] or not rate:
        raise MediaError(f"{path} must hold at least one frame of video, got none")
    audio = container.streams.audio[0] if container.streams.audio else None
    return VideoFacts(
        num_frames=counts[video.index],
        fps=float(rate),
        width=video.width,
        height=video.height,
        seconds=_length(video.duration, video.time_base, counts[video.index] / float(rate)),
        audio_seconds=None if audio is None else _length(audio.duration, audio.time_base, 0.0),
        bytes=path.stat().st_size,
    )


def _length(duration: int | None, time_base: Fraction | None, otherwise: float) -> float:
    return otherwise if duration is None or time_base is None else float(duration * time_base)


def _count_packets(container: InputContainer, path: Path) -> dict[int, int]:
    """Packets of each stream; the index of an MP4 says how many there must be."""
    counts = {stream.index: 0 for stream in container.streams}
    for packet in container.demux():
        if packet.is_corrupt:
            raise MediaError(f"{path} must be whole, got a truncated file")
        if packet.size:
            counts[packet.stream_index] += 1
    for stream in container.streams:
        if stream.frames and counts[stream.index] < stream.frames:
            raise MediaError(
                f"{path} must be whole, got {counts[stream.index]} of {stream.frames} packets of its "
                f"{stream.type}: the file is truncated"
            )
    return counts

"""A user's folder of videos with sound and captions, as clips to train on.

The folder holds videos, also in sub-folders, and ``metadata.jsonl`` as of Hugging Face ``datasets``' video
folder: one object per line with ``file_name`` relative to the folder and ``prompt`` (or ``text``, or
``caption``), and where wanted ``start_s``, the second at which the first clip of the video begins (at the
nearest of the video's frames). Videos that no line names are not used.
"""

import hashlib
import io
import json
import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltx_ray.errors import UserError
from ltx_ray.manifest.content import is_unicode, shorten
from ltx_ray.manifest.text_rows import Broken, json_rows
from ltx_ray.media.audio import read_audio
from ltx_ray.media.frames import Footage, probe_footage, read_frames
from ltx_ray.media.segment import frame_rate
from ltx_ray.training.clips import Clip

METADATA = "metadata.jsonl"
SAMPLE_RATE = 16_000  # of a clip's sound: what the audio encoder hears
# Names of the column with the prompt; the first that a line has is taken.
_PROMPTS = ("prompt", "text", "caption")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderVideo:
    """One line of the metadata and what its video holds."""

    file_name: str  # relative to the folder
    prompt: str
    start: Fraction  # second of playback at which the first clip begins
    num_clips: int
    has_sound: bool
    bytes: int  # size of the file


class FolderClips:
    """Clips of equal size and length, cut one after the other out of the videos of a folder.

    Videos are numbered as in the metadata, clips of one video by time; what remains of a video after its last
    whole clip is not used. Frame f of a clip shows what the video shows ``f / fps`` seconds after the clip's
    start, where the clip's sound begins too. Pictures are scaled to cover the wanted size and cropped at the
    centre; stereo sound is mixed down. Nothing is kept in memory but the index.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        frames: int,
        height: int,
        width: int,
        fps: float = 24.0,
        time_ratio: int = 8,
        space_ratio: int = 32,
    ) -> None:
        """Index ``folder`` by its metadata and its videos' headers.

        ``frames`` must be a multiple of the VAE's ``time_ratio`` and 1, ``height`` and ``width`` (pixels)
        multiples of its ``space_ratio``. Raises UserError for other sizes, and where the metadata or a video
        is missing, broken, or too short for one clip.
        """
        _check_size(frames, height, width, time_ratio, space_ratio)
        self._folder = Path(folder)
        self._frames, self._height, self._width = frames, height, width
        self._rate = frame_rate(fps)
        text = _metadata(self._folder)
        self._videos = [self._indexed(line, number) for number, line in _lines(text)]
        if not self._videos:
            raise UserError(
                f"{self._folder / METADATA} must name at least one video, got no line; add lines such as "
                '{"file_name": "a.mp4", "prompt": "..."}'
            )
        self._ends = list(accumulate(video.num_clips for video in self._videos))
        self._fingerprint = self._hashed(text)

    @property
    def videos(self) -> tuple[FolderVideo, ...]:
        """The videos, in the metadata's order."""
        return tuple(self._videos)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the settings, the metadata and the videos' names and sizes in bytes."""
        return self._fingerprint

    def __len__(self) -> int:
        """Number of clips of all videos."""
        return self._ends[-1]

    def __getitem__(self, index: int) -> Clip:
        """Decode a clip. Raises IndexError beyond the last, MediaError where the video cannot be decoded."""
        index = range(len(self))[index]
        video = self._videos[at := bisect_right(self._ends, index)]
        ordinal = index - (self._ends[at] - video.num_clips)
        start = video.start + ordinal * self._frames / self._rate
        url = str(self._folder / video.file_name)
        pixels = read_frames(url, start, self._frames, self._rate, height=self._height, width=self._width)
        return Clip(
            pixels=torch.from_numpy(pixels).permute(3, 0, 1, 2).float() / 127.5 - 1,
            prompt=video.prompt,
            sound=self._sound(url, start) if video.has_sound else None,
            sample_rate=SAMPLE_RATE,
            fps=float(self._rate),
        )

    def _sound(self, url: str, start: Fraction) -> Tensor:
        """Mono samples [n] of a clip's stretch; silent where the file's sound has ended."""
        sound = read_audio(url, float(start), float(self._frames / self._rate), SAMPLE_RATE)
        return torch.from_numpy(sound.mean(axis=0, dtype=np.float32))

    def _indexed(self, line: str, number: int) -> FolderVideo:
        where = f"line {number} of {self._folder / METADATA}"
        row = _row(line, where)
        name, size = _file(self._folder, row, where)
        footage = probe_footage(str(self._folder / name))
        start = _at_a_frame(_start(row, where), footage)
        # Lengths are rounded in some containers; the last frame of a clip need only be nearly over.
        shown = math.floor((footage.end - start) * self._rate + Fraction(1, 2))
        if shown < self._frames:
            raise UserError(
                f"{self._folder / name} must show at least one clip of {self._frames} frames at "
                f"{float(self._rate):g} fps from {float(start):g} s on, got {max(shown, 0)} frames; "
                f"take fewer frames per clip, or remove {where}"
            )
        return FolderVideo(
            file_name=name,
            prompt=_prompt(row, where),
            start=start,
            num_clips=shown // self._frames,
            has_sound=footage.has_sound,
            bytes=size,
        )

    def _hashed(self, text: str) -> str:
        settings = [self._frames, self._height, self._width, str(self._rate), SAMPLE_RATE]
        files = [[video.file_name, video.bytes] for video in self._videos]
        return hashlib.sha256(json.dumps([settings, text, files]).encode()).hexdigest()


def _at_a_frame(second: Fraction, footage: Footage) -> Fraction:
    """The beginning of the frame nearest to a second, so that no picture of a clip is half a frame off."""
    step = footage.frame_seconds
    after = max(second - footage.begin, Fraction(0))
    return footage.begin + (round(after / step) * step if step else after)


def _check_size(frames: int, height: int, width: int, time_ratio: int, space_ratio: int) -> None:
    if frames < 1 or (frames - 1) % time_ratio:
        low = max(frames - 1, 0) // time_ratio * time_ratio + 1
        raise UserError(
            f"frames must be a multiple of {time_ratio} and 1, got {frames}; take {low} or {low + time_ratio}"
        )
    for name, value in (("height", height), ("width", width)):
        if value < space_ratio or value % space_ratio:
            low = max(value // space_ratio, 1) * space_ratio
            raise UserError(
                f"{name} must be a multiple of {space_ratio} pixels, got {value}; "
                f"take {low} or {low + space_ratio}"
            )


def _metadata(folder: Path) -> str:
    path = folder / METADATA
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(
            f"a folder of videos must hold {METADATA}, got none in {folder}; write one line for each video: "
            '{"file_name": "a.mp4", "prompt": "..."}'
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} must be a readable file of UTF-8 text, got: {error}") from error


def _lines(text: str) -> list[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1 on."""
    return [(number, line) for number, line in enumerate(io.StringIO(text), 1) if line.strip()]


def _row(line: str, where: str) -> dict[str, Any]:
    (row,) = json_rows(io.StringIO(line))
    if isinstance(row, Broken):
        raise UserError(f"{where} {row.reason}")
    return row


def _file(folder: Path, row: dict[str, Any], where: str) -> tuple[str, int]:
    """The video's name, relative to the folder, and its size in bytes."""
    name = row.get("file_name")
    if not isinstance(name, str) or not name or not is_unicode(name):
        raise UserError(
            f"{where} must have a file_name, the video's path in the folder, got {shorten(name)} "
            f"and the columns {shorten(sorted(row))}"
        )
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"file_name in {where} must be inside the folder, got {shorten(name)}; "
            "move the video there, or link it"
        )
    try:
        return name, (folder / name).stat().st_size
    except (OSError, ValueError) as error:
        raise UserError(
            f"file_name in {where} must be a file of the folder, got {shorten(name)}: {error}; "
            "check its spelling"
        ) from error


def _prompt(row: dict[str, Any], where: str) -> str:
    value = next((row[name] for name in _PROMPTS if row.get(name) is not None), None)
    if not isinstance(value, str) or not value.strip() or not is_unicode(value):
        raise UserError(
            f"{where} must have a {' or '.join(_PROMPTS)} that says what the video shows, "
            f"got {shorten(value)} and the columns {shorten(sorted(row))}"
        )
    return value


def _start(row: dict[str, Any], where: str) -> Fraction:
    value = row.get("start_s")
    if value is None:
        return Fraction(0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(
            f"start_s in {where} must be seconds, 0 or more, got {shorten(value)}; leave it out for 0"
        )
    # Microseconds, so that 0.1 is a tenth.
    return Fraction(value).limit_denominator(1_000_000)

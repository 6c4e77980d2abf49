"""The synthetic world as a folder of videos, to try with what is made for a user's own."""

import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ltx_ray.config import EncodingConfig
from ltx_ray.errors import UserError
from ltx_ray.media.join import join_segments
from ltx_ray.media.segment import SegmentWriter, frame_rate
from ltx_ray.training.folder_data import METADATA
from ltx_ray.training.world import Scene, Split, scene
from ltx_ray.training.world_picture import render
from ltx_ray.training.world_prompts import prompt
from ltx_ray.training.world_sound import SAMPLE_RATE, render_sound

# Nearly without loss: what is trained on must not be what the encoder left.
# The sound keeps the rate that it is made at; 96 kbit/s is the most that AAC takes for one channel of it.
_ENCODING = EncodingConfig(crf=12, audio_rate=SAMPLE_RATE, audio_bitrate=96_000)


def write_world_folder(
    folder: Path,
    seeds: Iterable[int],
    frames: int,
    height: int,
    width: int,
    fps: float = 24.0,
    *,
    split: Split = "train",
) -> None:
    """Write a scene for each of ``seeds`` as ``world-SEED.mp4`` (H.264, AAC) into ``folder``, with metadata.

    ``height`` and ``width`` are even pixels. Each line of ``metadata.jsonl`` has ``file_name`` and
    ``prompt``, as ``FolderClips`` reads them, and the truth: ``colour``, ``shape``, ``direction``, ``speed``
    (short sides per second), ``sound`` (null: nothing sounds), ``onsets`` (seconds), ``seed``, ``split`` and
    ``fps``.

    Raises UserError where the folder has metadata already, MediaError for a size or rate that H.264 does not
    take, StorageError where nothing can be written.
    """
    path = folder / METADATA
    if path.exists():
        raise UserError(f"{folder} must be a folder without {METADATA}, got one; name another, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in seeds:
        shown = scene(seed, float(frames / frame_rate(fps)), split)
        name = f"world-{seed:06d}.mp4"
        _write_video(folder / name, shown, frames, height, width, fps)
        rows.append(json.dumps(_row(name, shown, fps)))
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def _write_video(path: Path, shown: Scene, frames: int, height: int, width: int, fps: float) -> None:
    rate = frame_rate(fps)
    sound = render_sound(shown, float(frames / rate))
    with TemporaryDirectory() as scratch:
        segment = Path(scratch) / "segment.mp4"
        with SegmentWriter(segment, width, height, fps, 0, _ENCODING) as writer:
            for index in range(frames):
                (pixels,) = render(shown, 1, height, width, fps=float(rate), start=float(index / rate))
                writer.write(np.rint(pixels * 255).astype(np.uint8))
        join_segments([segment], [frames], path, fps, sound[None], _ENCODING)


def _row(name: str, shown: Scene, fps: float) -> dict[str, object]:
    return {
        "file_name": name,
        "prompt": prompt(shown),
        "colour": shown.colour,
        "shape": shown.shape,
        "direction": shown.direction,
        "speed": shown.speed,
        "sound": shown.sound,
        "onsets": shown.onsets,
        "seed": shown.seed,
        "split": shown.split,
        "fps": fps,
    }

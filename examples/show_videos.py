"""Show finished videos as pictures: ``python examples/show_videos.py MANIFEST OUT [CONFIG]``.

Writes OUT/contact_sheet.png, a row of frames for each shot with a yellow bar below the frames in which its
sound begins anew, and OUT/demo.gif, the first seconds of the first shot with sound.
"""

import sys
from pathlib import Path

import numpy as np
from check_videos import videos
from numpy.typing import NDArray
from PIL import Image

from ltx_ray.config import RenderConfig
from ltx_ray.evaluation.frames import VideoPictures
from ltx_ray.evaluation.onsets import RATE, sound_onsets
from ltx_ray.evaluation.sync import first_frames
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.media.audio import read_audio
from ltx_ray.types import Shot

COLUMNS, HEIGHT = 12, 96  # frames in a row, pixels of each
GAP, BAR = 2, 5
YELLOW = (255, 210, 0)
GIF_SECONDS, GIF_EVERY, GIF_HEIGHT = 5.0, 2, 160  # every second frame


def heard_frames(path: Path, fps: float, seconds: float) -> set[int]:
    """Frames that are the first in which a sound is heard."""
    onsets = sound_onsets(read_audio(str(path), 0.0, seconds, RATE), RATE)
    return {int(frame) for frame in first_frames(onsets.times, fps)}


def frame_row(path: Path, shot: Shot) -> NDArray[np.uint8]:
    """Evenly spaced frames side by side, marked."""
    heard = heard_frames(path, shot.fps, shot.seconds) if shot.audio else set()
    wanted = np.unique(np.linspace(0, shot.num_frames - 1, COLUMNS).round().astype(int))
    cells, before = [], -1
    for index, picture in enumerate(VideoPictures.open(str(path)).frames(HEIGHT)):
        if index not in wanted:
            continue
        cell = np.pad((picture.rgb * 255).astype(np.uint8), ((0, BAR + GAP), (0, GAP), (0, 0)))
        if any(before < frame <= index for frame in heard):
            cell[-BAR:] = YELLOW
        cells.append(cell)
        before = index
    return np.concatenate(cells, axis=1)


def write_gif(source: Path, shot: Shot, path: Path) -> None:
    """The first seconds of a shot; the bar flashes with its sound."""
    heard = heard_frames(source, shot.fps, shot.seconds)
    pictures, lit = [], 0
    for index, picture in enumerate(VideoPictures.open(str(source)).frames(GIF_HEIGHT)):
        if index >= GIF_SECONDS * shot.fps:
            break
        lit = 6 if index in heard else lit - 1
        if index % GIF_EVERY == 0:
            cell = np.pad((picture.rgb * 255).astype(np.uint8), ((0, 2 * BAR), (0, 0), (0, 0)))
            if lit > 0:
                cell[-BAR - 2 : -2] = YELLOW
            pictures.append(Image.fromarray(cell).quantize(64))
    duration = round(1000 * GIF_EVERY / shot.fps)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=duration, loop=0)


def main(manifest: str, out: Path, config: str | None = None) -> None:
    """Both pictures of all shots of ``manifest``."""
    settings, found = RenderConfig.load(config), videos(out)
    asked = shots(manifest, settings, index_manifest(manifest, settings))
    shown = [shot for shot in asked if isinstance(shot, Shot) and shot.id in found]
    rows = [frame_row(found[shot.id], shot) for shot in shown]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    Image.fromarray(np.concatenate(padded)).save(out / "contact_sheet.png")
    sys.stdout.write(f"{out / 'contact_sheet.png'}\n")
    sounding = [shot for shot in shown if shot.audio]
    if sounding:
        write_gif(found[sounding[0].id], sounding[0], out / "demo.gif")
        sys.stdout.write(f"{out / 'demo.gif'}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])

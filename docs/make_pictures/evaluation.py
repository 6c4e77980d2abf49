"""Draw docs/images/evaluation.png: ``python docs/make_pictures/evaluation.py``.

A scene of the synthetic world with its sound, as ``ltx-ray evaluate`` draws it. Of its two seams of chunks
the first is as a good one should be; over the second, a shape that stands elsewhere is faded in, as a bad one
does.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ltx_ray.evaluation.evaluate import evaluate
from ltx_ray.evaluation.frames import ArrayPictures
from ltx_ray.evaluation.picture import draw_evaluation
from ltx_ray.evaluation.zones import Zones, seams_of
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.geometry import Ratios
from ltx_ray.training.world import scene
from ltx_ray.training.world_picture import render
from ltx_ray.training.world_prompts import prompt
from ltx_ray.training.world_sound import SAMPLE_RATE, render_sound

PICTURE = Path(__file__).parent.parent / "images" / "evaluation.png"
SEED, SECONDS, FPS, HEIGHT, WIDTH = 2, 10.0, 24.0, 96, 160


def main() -> None:
    shown, frames = scene(SEED, SECONDS, "held_out"), round(SECONDS * FPS)
    seams = seams_of(frames, ChunkSettings(chunk_size=121, overlap_frames=24), Ratios())
    video = render(shown, frames, HEIGHT, WIDTH, fps=FPS)
    moved = replace(shown, phase=(shown.phase + 0.12) % 1)
    other = render(moved, frames, HEIGHT, WIDTH, fps=FPS)
    bad = seams[1]
    part = np.clip((np.arange(frames) - bad.start + 1) / (bad.stop - bad.start + 1), 0, 1)[
        :, None, None, None
    ]
    found = evaluate(
        ArrayPictures((video * (1 - part) + other * part).astype(np.float32), FPS),
        sound=(render_sound(shown, SECONDS), SAMPLE_RATE),
        prompt=prompt(shown),
        zones=Zones(seams=seams),
    )
    picture = draw_evaluation(found, "A good seam and a bad one", prompt(shown))
    PICTURE.parent.mkdir(exist_ok=True)
    picture.quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()

"""The model card of the built-in checkpoint."""

from collections.abc import Mapping

_CARD = """\
---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
---
# tiny

A miniature LTX-Video for laptops, demonstrations and tests: the stock diffusers classes, the real
compression of 32 x 32 pixels x 8 frames, and an audio adapter in the layers 8 to 12, at a hundredth of
the size.

It is trained, but it knows one small world alone: a red, green, blue, yellow, purple or cyan circle,
square or triangle that moves right, left, up or down over a dark or bright background, and flashes when a
beep, a click or a clap is heard. Prompts such as

    a red circle moving right
    a video of a blue triangle that is moving up slowly over a dark background

are understood; of others it takes what it knows. All its pictures and sounds were made by a program
(`ltx_ray/training/world.py`): no data of any person went into it.

| part | parameters |
|---|---:|
{parameters}

Trained at 24 frames per second, mostly at 96 x 96 to 160 x 256 pixels, a little at up to 704 x 1280, in
windows of 2 to 16 latents (9 to 121 frames) with the tails, images and audio windows of longer videos. How
good it is, in figures: docs/quality.md of the project.

`make train-tiny` makes it again; the recipe is `ltx_ray/training/tiny.py`, what it was run with is in
`training.json`. Load it with `LTXPipeline.from_pretrained(FOLDER)`, or name it `tiny`.
"""


def card(parameters: Mapping[str, int]) -> str:
    """The card of a checkpoint whose parts have so many parameters."""
    rows = [f"| {part} | {count:,} |" for part, count in parameters.items()]
    return _CARD.format(parameters="\n".join(rows))

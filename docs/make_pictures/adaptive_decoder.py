"""Draw docs/images/adaptive_decoder.png: ``python docs/make_pictures/adaptive_decoder.py``.

One frame of the built-in checkpoint from random latents, whole and in two by two tiles, without context and
with the default. Nothing but numpy and Pillow is needed beside the library.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ltx_ray.decoding.tile import denormalize, to_uint8
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.models.checkpoint import resolve

Pixels = NDArray[np.uint8]

CELLS = 20  # of the frame's sides: 640 pixels
TILE_CELLS = 15  # a half of the frame and its context
PANEL = 280  # pixels of a panel's sides
MARGIN, TITLE = 10, 22
AMPLIFIED = 8
TARGET = Path(__file__).resolve().parent.parent / "images" / "adaptive_decoder.png"


def main() -> None:
    """Decode three times, and lay out what came."""
    vae = resolve("tiny").load_vae(torch.float32, "cpu")
    vae.decoder = decoder = create_adaptive_decoder(vae)
    latents = torch.randn(1, 48, 1, CELLS, CELLS, generator=torch.Generator().manual_seed(5))
    latents = denormalize(latents, vae)

    def frame() -> Pixels:
        with torch.inference_mode():
            return to_uint8(vae.decode(latents, return_dict=False)[0][0])[0]

    whole = frame()
    decoder.enable_tiling(tile_size=CELLS // 2 * 32, overlap=0)
    bare = frame()
    decoder.enable_tiling(tile_size=TILE_CELLS * 32, overlap=None)
    ours = frame()
    assert decoder.last_plan is not None
    assert decoder.last_plan.grid == (1, 2, 2)
    panels = [
        [
            ("decoded whole", _scaled(whole)),
            ("2 x 2 tiles without context", _scaled(bare)),
            ("2 x 2 tiles by the adaptive decoder", _scaled(ours)),
        ],
        [
            ("the seams' crossing without context, x4", _zoomed(bare)),
            (_largest(bare, whole), _scaled(_difference(bare, whole))),
            (_largest(ours, whole), _scaled(_difference(ours, whole))),
        ],
    ]
    TARGET.parent.mkdir(exist_ok=True)
    _laid_out(panels).quantize(256, kmeans=2, dither=Image.Dither.NONE).save(TARGET, optimize=True)


def _difference(a: Pixels, b: Pixels) -> Pixels:
    error = np.abs(a.astype(np.int16) - b) * AMPLIFIED
    return np.minimum(error, 255).astype(np.uint8)


def _largest(a: Pixels, b: Pixels) -> str:
    largest = np.abs(a.astype(np.int16) - b).max()
    return f"difference x{AMPLIFIED}, at most {largest} of 255 levels"


def _scaled(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels).resize((PANEL, PANEL), Image.Resampling.BOX)


def _zoomed(pixels: Pixels) -> Image.Image:
    start, size = CELLS * 16 - PANEL // 8, PANEL // 4
    part = pixels[start : start + size, start : start + size]
    return Image.fromarray(part).resize((PANEL, PANEL), Image.Resampling.NEAREST)


def _laid_out(panels: list[list[tuple[str, Image.Image]]]) -> Image.Image:
    width = MARGIN + len(panels[0]) * (PANEL + MARGIN)
    height = MARGIN + len(panels) * (PANEL + TITLE + MARGIN)
    sheet = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, line in enumerate(panels):
        for column, (title, image) in enumerate(line):
            left, top = MARGIN + column * (PANEL + MARGIN), MARGIN + row * (PANEL + TITLE + MARGIN)
            draw.text((left, top), title, fill="black", font=font)
            sheet.paste(image, (left, top + TITLE))
    return sheet


if __name__ == "__main__":
    main()

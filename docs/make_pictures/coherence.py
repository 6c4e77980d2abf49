"""Draw docs/images/coherence.png: the parts of TemporalCoherenceLoss over time, for five clips.

python docs/make_pictures/coherence.py
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ltx_ray.sampling.coherence import TemporalCoherenceLoss

TARGET = Path(__file__).resolve().parents[1] / "images" / "coherence.png"
FRAMES, ROWS, COLUMNS = 10, 60, 90
CLIPS = ("still", "smooth pan", "jitter of 2 pixels", "flicker of 10%", "a cut")
INK, PALE, FLOW, APPEARANCE = (40, 40, 40), (225, 225, 225), (32, 96, 176), (224, 122, 28)
LEFT, TOP, STEP, CHART, ROW = 150, 46, 78, 56, 132


def texture(seed: int, right: float, down: float) -> torch.Tensor:
    """RGB [3, H, W] in about [0, 1]: waves of 20 to 110 pixels, moved to the right and down."""
    draw = torch.Generator().manual_seed(seed)
    length = 20 * 2 ** (2.5 * torch.rand(3, 14, 1, 1, generator=draw))
    angle, phase = 2 * math.pi * torch.rand(2, 3, 14, 1, 1, generator=draw)
    y, x = torch.arange(ROWS).view(-1, 1) - down, torch.arange(COLUMNS) - right
    waves = torch.sin(2 * math.pi / length * (angle.cos() * x + angle.sin() * y) + phase)
    return 0.5 + 0.07 * waves.sum(1)


def clip(kind: str) -> torch.Tensor:
    """[1, 3, T, H, W]"""
    shakes = 2 * torch.rand(FRAMES, 2, generator=torch.Generator().manual_seed(7)) - 1
    frames = []
    for t in range(FRAMES):
        right, down = (0.0, 0.0) if kind == "still" else (0.8 * t, -0.4 * t)
        if kind.startswith("jitter"):
            right, down = right + 2 * shakes[t, 0].item(), down + 2 * shakes[t, 1].item()
        frame = texture(99 if kind == "a cut" and t >= FRAMES // 2 else 3, right, down)
        frames.append(frame * (1.05 if kind.startswith("flicker") and t % 2 else 0.95))
    return torch.stack(frames, dim=1)[None]


def main() -> None:
    image = Image.new("RGB", (LEFT + FRAMES * STEP + 16, TOP + len(CLIPS) * ROW), "white")
    draw = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(size=14), ImageFont.load_default(size=12)
    draw.text((12, 12), "TemporalCoherenceLoss at each boundary of two frames:", INK, font)
    for x, colour, name in ((400, FLOW, "flow"), (470, APPEARANCE, "appearance")):
        draw.rectangle((x, 15, x + 12, 27), fill=colour)
        draw.text((x + 18, 12), name, INK, font)
    draw.text((590, 13), "standard deviations of the clip; bars end at 0.8", INK, small)
    loss = TemporalCoherenceLoss()
    for row, kind in enumerate(CLIPS):
        frames = clip(kind)
        parts = loss.parts(frames)
        flow, appearance = (value.item() for value in parts.mean())
        top = TOP + row * ROW
        draw.text((12, top + 14), kind, INK, font)
        for line, text in enumerate((f"flow {flow:.3f}", f"appearance {appearance:.3f}")):
            draw.text((12, top + 62 + 18 * line), text, (FLOW, APPEARANCE)[line], small)
        for t in range(FRAMES):
            pixels = frames[0, :, t].clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
            thumbnail = Image.fromarray(np.ascontiguousarray(pixels)).resize((72, 48))
            image.paste(thumbnail, (LEFT + t * STEP, top))
        base = top + 54 + CHART
        draw.line((LEFT, base, LEFT + (FRAMES - 1) * STEP + 72, base), PALE)
        for t in range(FRAMES - 1):
            middle = LEFT + t * STEP + 75
            for side, colour, series in ((-15, FLOW, parts.flow), (1, APPEARANCE, parts.appearance)):
                height = round(min(series[0, t].item() / 0.8, 1) * CHART)
                if height:
                    draw.rectangle((middle + side, base - height, middle + side + 13, base), fill=colour)
    TARGET.parent.mkdir(exist_ok=True)
    image.quantize(96).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()

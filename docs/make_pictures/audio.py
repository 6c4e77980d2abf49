"""Draw docs/images/audio.png: ``python docs/make_pictures/audio.py``.

Clicks, the tokens that the audio encoder makes of them, and which latent frames one audio layer changes where
one click is taken away. The layer is untrained, with an open gate: the picture shows where it listens.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ltx_ray.models.audio.alignment import AudioTrack, audio_context, latent_span, window_size
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.transformers.audio_cross_attention import AudioCrossAttentionBlock
from ltx_ray.planning.geometry import Ratios

PICTURE = Path(__file__).parent.parent / "images" / "audio.png"
WIDTH, LEFT, RIGHT = 1200, 250, 20
SECONDS, FPS, RATE = 4.0, 24.0, 16_000
CLICKS = (0.5, 1.3, 2.1, 2.35, 3.4)
TAKEN = 2  # the click that is taken away
INK, GREY, RED, BLUE = (30, 30, 30), (205, 205, 205), (200, 60, 40), (40, 90, 170)


def sound(clicks: tuple[float, ...]) -> NDArray[np.float32]:
    """A click of 15 ms of decaying noise at each second of ``clicks``."""
    samples = np.zeros(round(SECONDS * RATE), np.float32)
    burst = np.random.default_rng(0).normal(0, 0.4, 240) * np.exp(-np.arange(240) / 60)
    for second in clicks:
        first = round(second * RATE)
        samples[first : first + 240] += burst.astype(np.float32)
    return samples


@torch.no_grad()
def changes() -> tuple[NDArray[np.float32], NDArray[np.float32], list[tuple[float, float]]]:
    """Change of each token and of each latent's video tokens without one click, and the latents' spans."""
    torch.manual_seed(0)
    encoder, block = AudioEncoder().eval(), AudioCrossAttentionBlock(160).eval()
    block.gate.fill_(1.0)
    ratios = Ratios()
    spans = [latent_span(latent, FPS, ratios) for latent in range(int(SECONDS * FPS / ratios.time) + 1)]
    video = torch.randn(1, len(spans), 160)
    made = []
    for clicks in (CLICKS, CLICKS[:TAKEN] + CLICKS[TAKEN + 1 :]):
        tokens = encoder(torch.from_numpy(sound(clicks)))
        context = audio_context(AudioTrack.of(tokens), spans, window_size(FPS, ratios, 25.0))
        made.append((tokens[0], block(video, context)[0]))
    (tokens, heard), (fewer, other) = made
    return (tokens - fewer).norm(dim=-1).numpy(), (heard - other).norm(dim=-1).numpy(), spans


def main() -> None:
    font = ImageFont.load_default(18)
    tokens, latents, spans = changes()
    image = Image.new("RGB", (WIDTH, 430), "white")
    draw = ImageDraw.Draw(image)

    def x_of(second: float) -> float:
        return LEFT + second / SECONDS * (WIDTH - LEFT - RIGHT)

    def label(y: float, *lines: str) -> None:
        for index, line in enumerate(lines):
            draw.text((12, y + 22 * index), line, INK, font)

    label(34, "the sound", "(red: one click", "is taken away)")
    samples = sound(CLICKS)
    for index in range(0, len(samples), 20):
        height = float(np.abs(samples[index : index + 20]).max()) * 60
        second = index / RATE
        colour = RED if abs(second - CLICKS[TAKEN] - 0.007) < 0.01 else INK
        draw.line([(x_of(second), 70 - height), (x_of(second), 70 + height)], colour)
    label(150, "25 tokens a second:", "how far each changes")
    top = tokens.max()
    for index, change in enumerate(tokens):
        box = (x_of(index / 25) + 1, 215 - 62 * change / top, x_of((index + 1) / 25) - 1, 215)
        draw.rectangle(box, fill=BLUE)
        draw.line([(x_of(index / 25), 216), (x_of((index + 1) / 25) - 1, 216)], GREY)
    label(262, "latents of 8 frames:", "how far their video", "tokens change")
    top = latents.max()
    for (start, stop), change in zip(spans, latents, strict=True):
        shade = 1 - change / top
        fill = tuple(round(255 * shade + ink * (1 - shade)) for ink in BLUE)
        draw.rectangle((x_of(start) + 1, 265, x_of(min(stop, SECONDS)) - 1, 320), fill=fill, outline=GREY)
    taken = x_of(CLICKS[TAKEN])
    draw.line([(taken, 20), (taken, 345)], RED)
    for second in range(5):
        draw.text((x_of(second) - 9 * second, 350), f"{second} s", INK, font)
    draw.text(
        (LEFT, 390),
        "One audio layer alone: a latent hears its own third of a second and 160 ms at both ends.",
        INK,
        font,
    )
    image.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()

"""Draw docs/images/long_video.png: ``python docs/make_pictures/long_video.py``. The plan is the real one."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ltx_ray.planning.chunks import ChunkSettings, plan_chunks
from ltx_ray.planning.geometry import Ratios, first_frame, latents_of
from ltx_ray.types import PromptSpan, Shot

PICTURE = Path(__file__).parent.parent / "images" / "long_video.png"
FRAMES, WIDTH, LEFT, RIGHT, ROW = 360, 1200, 130, 30, 62
INK, GREY, TAIL, OWN, DROPPED = (
    (30, 30, 30),
    (150, 150, 150),
    (236, 160, 70),
    (120, 165, 220),
    (225, 225, 225),
)
RATIOS = Ratios()


def shot() -> Shot:
    """The shot of the guide: 15 seconds at 24 frames a second."""
    nothing = dict.fromkeys(
        ("num_inference_steps", "guidance_scale", "audio_guidance_scale", "coherence_guidance")
    )
    nothing |= dict.fromkeys(("chunk_size", "overlap_frames", "audio", "image"))
    return Shot(
        id="shot",
        prompts=(PromptSpan(0.0, "a flower"),),
        negative_prompt="",
        num_frames=FRAMES,
        fps=24.0,
        width=768,
        height=512,
        seed=0,
        audio_start_s=0.0,
        priority=0,
        tags=(),
        row=1,
        input="{}",
        fingerprint="",
        **nothing,
    )


def main() -> None:
    font = ImageFont.load_default(18)
    chunks = plan_chunks(
        shot(), latents_of(FRAMES, RATIOS), ChunkSettings(chunk_size=121, overlap_frames=24), RATIOS
    )
    image = Image.new("RGB", (WIDTH, 90 + ROW * len(chunks) + 90), "white")
    draw = ImageDraw.Draw(image)

    def x_of(latent: int) -> float:
        return LEFT + first_frame(latent, RATIOS) / FRAMES * (WIDTH - LEFT - RIGHT)

    for number, chunk in enumerate(chunks):
        top = 30 + ROW * number
        draw.text((12, top + 8), f"chunk {number}", INK, font)
        for latent in range(chunk.start, chunk.stop):
            is_final = chunk.final_start <= latent < chunk.final_stop
            shared = latent < chunk.start + chunk.overlap
            colour = OWN if not shared else (DROPPED if latent == chunk.start else TAIL)
            box = (x_of(latent) + 1, top, x_of(latent + 1) - 1, top + 36)
            draw.rectangle(box, fill=colour, outline=INK if is_final else GREY, width=2 if is_final else 1)
    top = 34 + ROW * len(chunks)
    for chunk in chunks:
        start, stop = x_of(chunk.final_start), min(x_of(chunk.final_stop), WIDTH - RIGHT)
        draw.line([(start + 2, top), (stop - 2, top)], INK, 4)
        last = min(first_frame(chunk.final_stop, RATIOS), FRAMES)
        draw.text((start + 4, top + 6), f"{first_frame(chunk.final_start, RATIOS)} - {last}", INK, font)
    draw.text((12, top - 10), "made final", INK, font)
    legend = ((OWN, "new"), (TAIL, "crossfaded with the chunk before"), (DROPPED, "dropped: one frame only"))
    x = float(LEFT)
    for colour, text in legend:
        draw.rectangle((x, top + 52, x + 18, top + 70), fill=colour, outline=GREY)
        draw.text((x + 26, top + 50), text, INK, font)
        x += 60 + draw.textlength(text, font)
    draw.text((x, top + 50), "dark edge: final with this chunk", INK, font)
    image.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()

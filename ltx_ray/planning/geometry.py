"""Sizes and lengths in exact integers: which frames a latent covers, what must be made for what is asked.

A causal video VAE with temporal ratio r makes one latent of the first frame and one of each r frames
after it: latent 0 covers frame 0, latent j >= 1 covers the frames [r*j - r + 1, r*j].
"""

from dataclasses import dataclass

from ltx_ray.errors import UserError
from ltx_ray.types import Frame


@dataclass(frozen=True, slots=True)
class Ratios:
    """Compression of a VAE: frames per latent and pixels per cell, both from its config."""

    time: int = 8
    space: int = 32


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up, exactly."""
    return -(-a // b)


def latents_of(frames: int, ratios: Ratios) -> int:
    """Latent frames that cover ``frames`` (>= 1) pixel frames."""
    return ceil_div(frames - 1, ratios.time) + 1


def frames_of(latents: int, ratios: Ratios) -> int:
    """Pixel frames that ``latents`` (>= 1) latent frames decode to: ratio * (latents - 1) + 1."""
    return (latents - 1) * ratios.time + 1


def first_frame(latent: int, ratios: Ratios) -> int:
    """First pixel frame that ``latent`` covers; for one past the last latent, one past the last frame."""
    return 0 if latent == 0 else (latent - 1) * ratios.time + 1


def latent_at(frame: int, ratios: Ratios) -> int:
    """The latent that covers pixel ``frame``."""
    return ceil_div(frame, ratios.time)


def frame_for(num_frames: int, width: int, height: int, ratios: Ratios) -> Frame:
    """The smallest size and length of the model's grid that hold what is asked.

    Raises UserError for sizes that 4:2:0 video cannot have (odd) or that are not positive.
    """
    if num_frames < 1:
        raise UserError(f"num_frames must be at least 1, got {num_frames}")
    for name, value in (("width", width), ("height", height)):
        if value < 2 or value % 2:
            raise UserError(f"{name} must be even and at least 2 pixels, got {value}")
    full_width = ceil_div(width, ratios.space) * ratios.space
    full_height = ceil_div(height, ratios.space) * ratios.space
    latents = latents_of(num_frames, ratios)
    return Frame(
        frames=frames_of(latents, ratios),
        width=full_width,
        height=full_height,
        crop_left=(full_width - width) // 2,
        crop_top=(full_height - height) // 2,
        latents=latents,
        rows=full_height // ratios.space,
        columns=full_width // ratios.space,
    )

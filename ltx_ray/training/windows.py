"""Windows as the sampler sees them, to be trained on.

Of a clip's latents a window is cut as ``planning/chunks.py`` would: at the beginning of a shot, or further
on, with the tail of the window before appended at the head's coordinates, and the first frame's image at a
negative index. All clips of a batch share one layout, so tokens, coordinates and audio windows do too.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ltx_ray.models.audio.alignment import AudioContext, AudioTrack, audio_context, latent_span, window_size
from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.coordinates import Rope, window_coordinates

# How often a window is one of a later chunk, where the clip is long enough; and how often it has an image.
_LATER, _IMAGE = 0.5, 0.25
# Latents of a tail: 2 to 4, as overlaps of 16 to 39 frames give; 3 (24 frames) is the default.
_TAILS, _TAIL_CHANCES = (1, 2, 3, 4), (0.1, 0.2, 0.5, 0.2)
# overlap_strength: 0.5 is the default.
_STRENGTHS, _STRENGTH_CHANCES = (0.5, 1.0), (0.75, 0.25)
_SHORTEST = 2  # latents
# Up to so much noise lies on a tail, in standard deviations: while sampling it was made, not filmed, and what
# is wrong in it must not be carried on from chunk to chunk (as in cascaded diffusion, Ho et al. 2021,
# arXiv:2106.15282).
_TAIL_NOISE = 0.25
# While sampling, what is held is pulled to its values twice a step: its noise is gone after a few steps,
# though its timestep says otherwise. Only near the first step there is some left.
_HELD_NOISE_FROM = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What takes part in the windows of a batch."""

    start: int  # first latent of the window within its clip (= its shot)
    length: int  # latents
    tail: int  # latents of the window before that are appended; 0: none
    image: bool  # the first frame's latent is appended, and is also latent 0 where start is 0
    strength: float  # overlap_strength, 0..1

    @property
    def extra(self) -> int:
        """Latents that are appended to the window's own."""
        return self.tail + int(self.image)


def draw_layout(draw: np.random.Generator, latents: int, longest: int) -> Layout:
    """A layout within a clip of ``latents`` latents; windows have at most ``longest``."""
    later = latents > _SHORTEST + 1 and draw.uniform() < _LATER
    image = bool(draw.uniform() < _IMAGE)
    start = int(draw.integers(1, latents - _SHORTEST)) if later else 0
    most = min(latents - start, longest)
    # Long ones more often: they hold all that short ones do.
    length = most if draw.uniform() < 0.5 else int(draw.integers(_SHORTEST, most + 1))
    tail = min(int(draw.choice(_TAILS, p=_TAIL_CHANCES)), length - 1) if later else 0
    strength = float(draw.choice(_STRENGTHS, p=_STRENGTH_CHANCES))
    return Layout(start=start, length=length, tail=tail, image=image, strength=strength)


def clean_window(latents: Tensor, layout: Layout) -> Tensor:
    """The window's own latents, the tail and the image: [B, C, T, H, W] of clips [B, C, all, H, W]."""
    start = layout.start
    parts = [latents[:, :, start : start + layout.length]]
    if layout.tail:
        parts.append(latents[:, :, start : start + layout.tail])
    if layout.image:
        parts.append(latents[:, :, :1])
    return torch.cat(parts, dim=2)


def worn_tail(window: Tensor, layout: Layout, draw: torch.Generator, alike: int = 1) -> Tensor:
    """``clean_window``'s result with a little noise on its tail, more on some and less on others; ``alike``
    clips in a row have the same."""
    if not layout.tail:
        return window
    part = slice(layout.length, layout.length + layout.tail)
    tail = window[:, :, part]
    groups = len(tail) // alike
    level = _TAIL_NOISE * torch.rand((groups, 1, 1, 1, 1), generator=draw)
    noise = level * torch.randn((groups, *tail.shape[1:]), generator=draw)
    worn = window.clone()
    worn[:, :, part] = tail + noise.repeat_interleave(alike, 0).to(tail)
    return worn


def window_levels(layout: Layout, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Noise levels that each latent is told and that it has, both [B, T] in 0..1, for ``sigma`` [B]."""
    freedom = torch.ones(layout.length + layout.extra, device=sigma.device)
    if layout.tail:
        freedom[layout.length : layout.length + layout.tail] = 1 - layout.strength
    if layout.image:
        freedom[-1] = 0
        if layout.start == 0:
            freedom[0] = 0
    told = sigma[:, None] * freedom
    held = (freedom < 1) & (sigma[:, None] < _HELD_NOISE_FROM)
    return told, torch.where(held, torch.zeros_like(told), told)


def counted(layout: Layout) -> slice:
    """The latents of the window on which the loss is taken: those that are denoised freely."""
    return slice(1 if layout.image and layout.start == 0 else 0, layout.length)


def layout_coordinates(
    layout: Layout, rows: int, columns: int, fps: float, rope: Rope, ratios: Ratios
) -> Tensor:
    """Coordinates [1, 3, tokens] as ``denoise_chunk`` gives them."""
    return window_coordinates(layout.length, rows, columns, layout.tail, int(layout.image), fps, rope, ratios)


def layout_audio(layout: Layout, tokens: Tensor, rate: Fraction, fps: float, ratios: Ratios) -> AudioContext:
    """What each latent hears of ``tokens`` [B, L, A] that begin with the clip, as by ``chunk_audio``."""
    own = [layout.start + index for index in range(layout.length)]
    heard = [*own, *own[: layout.tail], *([0] if layout.image else [])]
    track = AudioTrack(tokens=tokens, tokens_per_second=float(rate))
    spans = [latent_span(latent, fps, ratios) for latent in heard]
    return audio_context(track, spans, window_size(fps, ratios, float(rate)))

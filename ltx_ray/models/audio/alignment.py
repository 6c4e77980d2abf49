"""Which audio tokens belong to which latent frame, and how far from it in time each of them is.

A latent of 8 frames at 24 fps lasts 333 ms, a token 40 ms: sound is placed finer than the picture's latents.
Each latent hears a window of its own, of one length for all of them, so that tokens are gathered and nothing
is masked. A window that reaches beyond the sound hears its first or last token on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from ltx_ray.errors import UserError
from ltx_ray.planning.geometry import Ratios, first_frame

# Tokens of a window beyond the time that its latent covers, at both ends (160 ms at 25 per second).
MARGIN = 4
DEFAULT_TOKENS_PER_SECOND = 25.0

# Exact: at a tie of two windows a rounding would decide, and another for another start of the same sound.
Span = tuple[Fraction, Fraction]


class AudioContext(NamedTuple):
    """What the audio layers are given: tokens, and the window of each latent frame of the token sequence."""

    tokens: Tensor  # [B, L, A]
    windows: Tensor  # [T, K] int64: the tokens that each latent hears
    offsets: Tensor  # [T, K] float32: seconds from the middle of the latent to the middle of the token

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "AudioContext":
        """On ``device``, with tokens in ``dtype`` (None: as they are); times stay float32."""
        return AudioContext(
            self.tokens.to(device, dtype), self.windows.to(device), self.offsets.to(device, torch.float32)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """A shot's encoded sound on the clock of its video."""

    tokens: Tensor  # [B, L, A]
    start_s: float = 0.0  # second of the video at which the first token begins; negative: before the video
    tokens_per_second: float = DEFAULT_TOKENS_PER_SECOND

    def __post_init__(self) -> None:
        is_tensor = isinstance(self.tokens, Tensor)
        if not is_tensor or self.tokens.ndim != 3 or 0 in self.tokens.shape:
            got = tuple(self.tokens.shape) if is_tensor else type(self.tokens).__name__
            raise UserError(
                f"audio latents must be [batch, tokens, channels] as AudioEncoder makes them, got {got}"
            )
        if not torch.isfinite(self.tokens).all():
            raise UserError("audio latents must be finite, got NaN or infinity: look at the waveform")
        if not (math.isfinite(self.start_s) and 0 < self.tokens_per_second < math.inf):
            raise UserError(
                f"audio latents need a finite start and a rate above 0, "
                f"got {self.start_s} s and {self.tokens_per_second} per second"
            )

    @classmethod
    def of(cls, latents: "Tensor | AudioTrack") -> "AudioTrack":
        """``latents`` [B, L, A] that begin with the video, at 25 per second; a track stays as it is."""
        return latents if isinstance(latents, AudioTrack) else cls(tokens=latents)


def latent_span(latent: int, fps: float, ratios: Ratios) -> Span:
    """Seconds of the video, from and to, that latent frame ``latent`` (0-based) covers."""
    rate = Fraction(fps)
    return first_frame(latent, ratios) / rate, first_frame(latent + 1, ratios) / rate


def window_size(fps: float, ratios: Ratios, tokens_per_second: float) -> int:
    """Tokens in a latent's window: those that a latent of ``ratios.time`` frames covers, and the margins."""
    return math.ceil(Fraction(ratios.time) * Fraction(tokens_per_second) / Fraction(fps)) + 2 * MARGIN


def audio_context(track: AudioTrack, spans: Sequence[Span], window: int) -> AudioContext:
    """The context of latents that cover ``spans`` (seconds of the video), in the order of the sequence.

    Every latent hears the ``window`` tokens around the middle of its span. Worked out in fractions from
    times alone: the same latent of the same shot has the same window in whichever chunk it is.
    """
    rate, begin = Fraction(track.tokens_per_second), Fraction(track.start_s)
    middles = [(start + stop) / 2 - begin for start, stop in spans]  # from the first token's beginning
    firsts = [math.floor(middle * rate - Fraction(window, 2) + Fraction(1, 2)) for middle in middles]
    halves = [(first + Fraction(1, 2)) / rate for first in firsts]
    nearest = [float(half - middle) for half, middle in zip(halves, middles, strict=True)]
    steps = torch.arange(window)
    index = torch.tensor(firsts)[:, None] + steps
    offsets = torch.tensor(nearest, dtype=torch.float64)[:, None] + steps / float(rate)
    held = index.clamp(0, track.tokens.shape[1] - 1)
    # Only what these latents hear, in memory of its own: a chunk of a long shot projects no other tokens.
    low, high = int(held.min()), int(held.max())
    return AudioContext(track.tokens[:, low : high + 1].clone(), held - low, offsets.float())

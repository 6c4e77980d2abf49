"""What a model is trained on: clips with a prompt and, where there is one, a sound."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip as it is trained on."""

    pixels: Tensor  # [3, F, H, W] float32 in -1..1; F = 8k + 1, H and W multiples of 32 (of the VAE's ratios)
    prompt: str
    sound: Tensor | None  # [samples] float32 in -1..1 at ``sample_rate``, from frame 0 on; None: no sound
    sample_rate: int
    fps: float


class ClipSource(Protocol):
    """A numbered set of clips; a clip is a function of its number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Clip: ...

    @property
    def fingerprint(self) -> str:
        """Names the clips: another set, or the same at other sizes, has another."""
        ...

"""Guidance: the prediction of one step from several passes of the transformer.

Passes run one after the other at batch 1, so the peak memory is that of one pass. A pass is named by what it
is conditioned on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ltx_ray.models.audio.alignment import AudioContext


@dataclass(frozen=True, slots=True)
class Condition:
    """What one pass of the transformer is conditioned on."""

    name: str  # of the pass: feature caches keep one state per name
    embeds: torch.Tensor  # [1, L, D], the transformer's dtype and device
    mask: torch.Tensor  # [1, L] bool, False: padding
    audio: AudioContext | None = None  # None: the pass hears nothing


@dataclass(frozen=True, slots=True)
class Guidance:
    """Guidance by text (Ho and Salimans 2022, in the form of Imagen's equation 2) and by audio.

    With u the unconditional and c the conditional text, both with audio on, and n the conditional text with
    audio off, the prediction is u + w (c - u) + (s - 1) (c - n), as in LTX-2's multimodal guidance.
    """

    conditional: Condition
    unconditional: Condition
    scale: float  # w; 1: the unconditional pass is not run
    audio_scale: float = 1.0  # s; 1, or a shot without audio: the pass without audio is not run

    def predict(self, forward: Callable[[Condition], torch.Tensor]) -> torch.Tensor:
        """The prediction in float32, [1, S, C]; ``forward`` runs one pass."""
        conditional = predicted = forward(self.conditional).float()
        if self.scale != 1:
            unconditional = forward(self.unconditional).float()
            predicted = unconditional + self.scale * (conditional - unconditional)
        if self.audio_scale != 1 and self.conditional.audio is not None:
            silent = replace(self.conditional, name=f"{self.conditional.name}_silent", audio=None)
            predicted = predicted + (self.audio_scale - 1) * (conditional - forward(silent).float())
        return predicted

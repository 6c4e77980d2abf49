"""Guidance: the prediction of one step from several passes of the transformer.

Passes run one after the other at batch 1, so the peak memory is that of one pass. A pass is named by what it
is conditioned on; a further kind of condition (sound) is a further field of ``Condition``, and its guidance
a further term of ``Guidance.predict``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Condition:
    """What one pass of the transformer is conditioned on."""

    name: str  # of the pass: feature caches keep one state per name
    embeds: torch.Tensor  # [1, L, D], the transformer's dtype and device
    mask: torch.Tensor  # [1, L] bool, False: padding


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans 2022, in the form of Imagen's equation 2)."""

    conditional: Condition
    unconditional: Condition
    scale: float  # w; 1: the unconditional pass is not run

    def predict(self, forward: Callable[[Condition], torch.Tensor]) -> torch.Tensor:
        """u + w (c - u) in float32, [1, S, C]; ``forward`` runs one pass."""
        conditional = forward(self.conditional).float()
        if self.scale == 1:
            return conditional
        unconditional = forward(self.unconditional).float()
        return unconditional + self.scale * (conditional - unconditional)

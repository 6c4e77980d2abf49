"""How a later window is fitted to what came before: its statistics, then its seam.

As in diffusers' ``LTXI2VLongMultiPromptPipeline``, but for the lengths of seams: with overlaps of 2 latents
that pipeline repeats a latent instead of blending it.
"""

import torch

# Keeps a channel without variation from being divided by zero; the value is diffusers'.
_EPSILON = 1e-6


def channel_statistics(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and unbiased standard deviation of ``latents`` [1, C, T, H, W] per channel, each [C].

    One single value per channel has no deviation: 0.
    """
    values = latents.float()
    correction = 1 if values[0, 0].numel() > 1 else 0
    std, mean = torch.std_mean(values, dim=(0, 2, 3, 4), correction=correction)
    return mean, std


def adain(latents: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, factor: float) -> torch.Tensor:
    """``latents`` [1, C, T, H, W] with their channel statistics moved towards ``mean`` and ``std`` [C].

    ``factor`` in [0, 1]: 0 leaves them as they are, 1 matches the statistics (Huang and Belongie 2017).
    """
    if factor == 0:
        return latents
    own_mean, own_std = (_per_channel(value) for value in channel_statistics(latents))
    new_mean = (1.0 - factor) * own_mean + factor * _per_channel(mean)
    new_std = (1.0 - factor) * own_std + factor * _per_channel(std)
    return (latents - own_mean) / (own_std + _EPSILON) * new_std.clamp(min=_EPSILON) + new_mean


def crossfade(previous_tail: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Linear crossfade of two takes [1, C, n, H, W] of the same n >= 0 latents.

    The weights of ``previous_tail`` are n steps strictly between 1 and 0: one latent is halved, none is none.
    """
    n = previous_tail.shape[2]
    weights = torch.linspace(1, 0, n + 2, device=head.device, dtype=head.dtype)[1:-1].view(1, 1, n, 1, 1)
    return weights * previous_tail + (1 - weights) * head


def _per_channel(values: torch.Tensor) -> torch.Tensor:
    return values.float().view(1, -1, 1, 1, 1)

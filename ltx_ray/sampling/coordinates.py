"""Where each token stands in time and space: what the transformer's rotary embedding is given.

Both conventions are written in the order of operations of the pipeline they come from: the embedding's
highest frequency multiplies a time by about 15,000, so a rounding difference there would be seen.
"""

from typing import Literal

import torch

from ltx_ray.planning.geometry import Ratios

Rope = Literal["uniform", "causal"]


def window_coordinates(
    latents: int,
    rows: int,
    columns: int,
    tail: int,
    negative: int,
    fps: float,
    rope: Rope,
    ratios: Ratios,
) -> torch.Tensor:
    """Coordinates [1, 3, tokens] float32 of a window: t in seconds, y and x in pixels (top left of a cell).

    Tokens are latents x rows x columns, columns fastest, of the ``latents`` of the window, then of ``tail``
    latents that stand where the window's first ones stand, then of ``negative`` (0 or 1) latents one
    step before time 0. Time starts at 0 in each window.

    ``uniform``: latent j stands at ratio * j frames (diffusers' ``LTXPipeline``). ``causal``: at the first
    frame that it covers, max(ratio * (j - 1) + 1, 0) (``LTXI2VLongMultiPromptPipeline``).
    """
    index = torch.cat([torch.arange(latents), torch.arange(tail), torch.full((negative,), -1)])
    times = _times(index, fps, rope, ratios.time)
    y = torch.arange(rows, dtype=torch.float32) * ratios.space
    x = torch.arange(columns, dtype=torch.float32) * ratios.space
    return torch.stack(torch.meshgrid(times, y, x, indexing="ij")).flatten(1).unsqueeze(0)


def _times(index: torch.Tensor, fps: float, rope: Rope, ratio: int) -> torch.Tensor:
    """Seconds at which the latents ``index`` [n] (-1: before the first) of a window stand."""
    if rope == "uniform":
        return index.float() * (ratio / fps)
    frames = torch.where(index < 0, index * ratio, (index * ratio + 1 - ratio).clamp(min=0))
    return frames.float() * (1.0 / fps)

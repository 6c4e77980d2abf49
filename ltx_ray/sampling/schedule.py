"""Noise levels (sigmas): how far each denoising step goes."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

from ltx_ray.errors import ModelError, UserError

# mu grows with the tokens without end; from about 12 on (1080p, 121 frames) 1 - sigma is lost in float32, and
# at 4K diffusers' levels are NaN. Between 8 and infinity the stretched levels of 50 steps change by 0.004.
_MAX_SHIFT = 8.0


def sigma_schedule(
    scheduler_config: Mapping[str, Any],
    num_inference_steps: int,
    tokens: int,
    explicit: Sequence[float] | None,
) -> tuple[float, ...]:
    """Falling noise levels from at most 1 to exactly 0.0: one more than there are steps.

    ``tokens`` is the number of the window's own tokens; with dynamic shifting, more tokens keep the noise
    higher for longer. ``explicit`` levels are final: they are not shifted again, and a 0 is appended where
    the last one is missing. Otherwise the levels are those of diffusers' ``LTXPipeline``, except where these
    break down, beyond 20,000 tokens.

    Raises UserError for explicit levels that do not fall within [0, 1], or for fewer than one step, and
    ModelError for a scheduler config whose levels do not fall to 0.
    """
    if explicit is not None:
        return _final(explicit)
    if num_inference_steps < 1:
        raise UserError(f"num_inference_steps must be at least 1, got {num_inference_steps}")
    if num_inference_steps == 1:
        # Stretching to shift_terminal divides by zero here: the first level is the last one too.
        return (1.0, 0.0)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(scheduler_config))
    linear = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
    scheduler.set_timesteps(sigmas=linear, mu=_shift(scheduler.config, tokens))
    sigmas = tuple(float(sigma) for sigma in scheduler.sigmas)
    if not _falls(sigmas):
        raise ModelError(
            f"expected noise levels that fall from at most 1 to 0 from the checkpoint's scheduler, "
            f"got {sigmas} for {num_inference_steps} steps; set sampling.sigmas or use another checkpoint"
        )
    return sigmas


def repaired_config(config: Mapping[str, Any], num_inference_steps: int, tokens: int) -> dict[str, Any]:
    """What to change in a scheduler's config so that diffusers' own pipeline gets the levels of
    ``sigma_schedule``; nothing for all but one step, and up to 20,000 tokens."""
    changes: dict[str, Any] = {}
    if num_inference_steps == 1:
        changes["shift_terminal"] = None
    if config.get("use_dynamic_shifting") and _linear_shift(config, tokens) > _MAX_SHIFT:
        changes |= {"base_shift": _MAX_SHIFT, "max_shift": _MAX_SHIFT}
    return changes


def _shift(config: Mapping[str, Any], tokens: int) -> float:
    return min(_linear_shift(config, tokens), _MAX_SHIFT)


def _linear_shift(config: Mapping[str, Any], tokens: int) -> float:
    """The dynamic shift mu, linear in tokens (``calculate_shift`` of diffusers' pipeline_ltx.py)."""
    base_tokens = config.get("base_image_seq_len", 256)
    max_tokens = config.get("max_image_seq_len", 4096)
    base_shift = config.get("base_shift", 0.5)
    max_shift = config.get("max_shift", 1.15)
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    return float(tokens * slope + (base_shift - slope * base_tokens))


def _final(explicit: Sequence[float]) -> tuple[float, ...]:
    sigmas = tuple(float(sigma) for sigma in explicit)
    ended = sigmas if sigmas and sigmas[-1] == 0 else (*sigmas, 0.0)
    if not _falls(ended):
        raise UserError(
            f"sigmas must be at least one level, falling from at most 1 to 0, got {list(explicit)}"
        )
    return ended


def _falls(sigmas: tuple[float, ...]) -> bool:
    # Written so that NaN, for which every comparison is false, does not pass.
    return len(sigmas) > 1 and sigmas[0] <= 1 and sigmas[-1] == 0 and all(a > b for a, b in pairwise(sigmas))

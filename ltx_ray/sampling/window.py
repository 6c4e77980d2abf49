"""The denoising loop of one window: noise in, latents out.

What a window is told of its latents (the first frame's image, the window before) is held by in-painting with
per-token timesteps, in exactly the order of operations of diffusers' ``LTXI2VLongMultiPromptPipeline``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ltx_ray.sampling.guidance import Condition, Guidance

# LTX transformers are trained on timesteps of 0..1000.
_TIMESTEPS = 1000


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a window's latents before it is denoised."""

    values: torch.Tensor  # [1, C, T, H, W] float32; anything where freedom is 1
    freedom: torch.Tensor  # [T] float32: 1 is denoised freely, 0 stays at its value


def denoise_window(
    transformer: Any,
    noise: torch.Tensor,
    known: Known | None,
    coordinates: torch.Tensor,
    sigmas: Sequence[float],
    guidance: Guidance,
    on_step: Callable[[int, int], None] | None = None,
    steer: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Denoise [1, C, T, H, W] float32 ``noise`` from sigmas[0] to sigmas[-1] with Euler steps.

    ``T`` counts everything that takes part, appended latents too; ``coordinates`` [1, 3, T * H * W] say where
    each stands. ``known`` None: nothing is conditioned, and one timestep serves all tokens. ``on_step`` is
    told the number of steps done and of all. ``steer`` is given the estimate of the clean latents at each
    step, [1, C, T, H, W], and returns the one that is gone towards instead. Returns float32 latents of the
    same shape.
    """
    levels = torch.tensor(sigmas, dtype=torch.float32)
    times = (levels * _TIMESTEPS).to(noise.device)
    steps = len(sigmas) - 1
    hold = _Hold.of(known)
    # A cache that outlived its window would make the result depend on what this actor did before.
    transformer._reset_stateful_cache()

    x = hold(_tokens(noise))
    for step in range(steps):
        timestep = hold.timestep(times[step])
        velocity = guidance.predict(_Pass(transformer, x.to(transformer.dtype), timestep, coordinates))
        if steer is not None:
            velocity = _steered(steer, x, velocity, levels[step], noise.shape)
        # The model has seen x as the last step left it; only then are the known latents blended in anew.
        # For a freedom between 0 and 1 that order shows, and it is the one that the reference has.
        x = hold(x) + (levels[step + 1] - levels[step]) * velocity
        x = hold(x)
        if on_step is not None:
            on_step(step + 1, steps)
    return _latents(x, noise.shape)


@dataclass(frozen=True, slots=True)
class _Hold:
    """Pulls tokens [1, S, C] towards what is known of them; without anything known, leaves them alone."""

    values: torch.Tensor | None  # [1, S, C]
    freedom: torch.Tensor | None  # [1, S, 1]

    @classmethod
    def of(cls, known: Known | None) -> "_Hold":
        if known is None:
            return cls(None, None)
        cells = known.values.shape[3] * known.values.shape[4]
        return cls(_tokens(known.values), known.freedom.repeat_interleave(cells)[None, :, None])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.values is None or self.freedom is None:
            return x
        return x * self.freedom + self.values * (1.0 - self.freedom)

    def timestep(self, time: torch.Tensor) -> torch.Tensor:
        """``time`` [] as [1], or per token as [1, S, 1]: what is held is, to the model, less noisy."""
        return time[None] if self.freedom is None else time * self.freedom


@dataclass(frozen=True, slots=True)
class _Pass:
    """One forward of the transformer, for any condition."""

    transformer: Any
    tokens: torch.Tensor  # [1, S, C] in the transformer's dtype
    timestep: torch.Tensor  # [1] or [1, S, 1]
    coordinates: torch.Tensor  # [1, 3, S]

    def __call__(self, condition: Condition) -> torch.Tensor:
        # A transformer without audio layers does not know the argument.
        heard = {} if condition.audio is None else {"audio": condition.audio}
        with self.transformer.cache_context(condition.name):
            velocity: torch.Tensor = self.transformer(
                hidden_states=self.tokens,
                encoder_hidden_states=condition.embeds,
                timestep=self.timestep,
                encoder_attention_mask=condition.mask,
                video_coords=self.coordinates,
                return_dict=False,
                **heard,
            )[0]
        return velocity


def _steered(
    steer: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    velocity: torch.Tensor,
    sigma: torch.Tensor,
    shape: torch.Size,
) -> torch.Tensor:
    """The velocity that leads to the steered estimate: x = clean + sigma * velocity, tokens [1, S, C]."""
    clean = steer(_latents(x - sigma * velocity, shape))
    return (x - _tokens(clean)) / sigma


def _tokens(latents: torch.Tensor) -> torch.Tensor:
    """[1, C, T, H, W] as tokens [1, T * H * W, C]."""
    return latents.flatten(2).transpose(1, 2).contiguous()


def _latents(tokens: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """[1, T * H * W, C] as latents of the shape [1, C, T, H, W]."""
    return tokens.transpose(1, 2).reshape(shape).contiguous()

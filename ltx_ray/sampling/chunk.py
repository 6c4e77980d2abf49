"""The work of the denoise stage: one chunk of one shot, at batch 1.

A chunk's window is denoised, fitted to the shot so far and cut: what no later chunk changes is final, what
the next chunk shares is its tail. ``ChunkLatents`` of the chunk before is all that a chunk needs to go on.
Method and constants are those of diffusers' ``LTXI2VLongMultiPromptPipeline``.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from ltx_ray.errors import BadResultError, LtxRayError
from ltx_ray.models.audio.alignment import AudioContext
from ltx_ray.sampling.audio import chunk_audio
from ltx_ray.sampling.carriers import ChunkLatents, Conditioning, SamplingSettings
from ltx_ray.sampling.coherence import coherence_step
from ltx_ray.sampling.coordinates import window_coordinates
from ltx_ray.sampling.fusion import adain, channel_statistics, crossfade
from ltx_ray.sampling.guidance import Condition, Guidance
from ltx_ray.sampling.schedule import sigma_schedule
from ltx_ray.sampling.window import Known, denoise_window
from ltx_ray.types import Chunk

__all__ = ["ChunkLatents", "Conditioning", "SamplingSettings", "denoise_chunk"]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@torch.inference_mode()
def denoise_chunk(
    transformer: Any,
    scheduler_config: Mapping[str, Any],
    conditioning: Conditioning,
    chunk: Chunk,
    previous: ChunkLatents | None,
    settings: SamplingSettings,
    *,
    on_step: Callable[[int, int], None] | None = None,
    noise: torch.Tensor | None = None,
) -> ChunkLatents:
    """Denoise ``chunk`` after ``previous`` (None for a shot's first chunk) and fuse it with what came before.

    ``on_step`` is told the number of denoising steps done and of all. ``noise``, float32
    [1, C, T, H, W] for the window's latents and those appended to it (the tail of the chunk before, the
    image), replaces the noise that is otherwise drawn from ``chunk.seed``.

    Raises BadResultError if the latents are not finite, and LtxRayError if ``previous`` does not fit.
    """
    _check_previous(chunk, previous)
    window = _denoised(transformer, scheduler_config, conditioning, chunk, previous, settings, on_step, noise)
    dtype = _DTYPES[settings.latents_dtype]
    if previous is None:
        shown = window.to(dtype)
        mean, std = (value.to(dtype).cpu() for value in channel_statistics(shown))
    else:
        shown = _fused(window, previous, settings.adain_factor).to(dtype)
        mean, std = previous.mean, previous.std
    if not torch.isfinite(shown).all():
        raise BadResultError(
            f"expected finite latents for chunk {chunk.index}, got NaN or Inf; if a retry gives the same, "
            f"try float32 weights or another seed"
        )
    return ChunkLatents(
        final=_kept(shown[:, :, chunk.final_start - chunk.start : chunk.final_stop - chunk.start]),
        tail=_kept(shown[:, :, chunk.length - chunk.next_overlap :]),
        mean=mean,
        std=std,
    )


def _kept(latents: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU: no view of the whole window, and laid out as it comes back from a file."""
    return latents.cpu().clone(memory_format=torch.contiguous_format)


def _check_previous(chunk: Chunk, previous: ChunkLatents | None) -> None:
    got = 0 if previous is None else previous.tail.shape[2]
    if got != chunk.overlap or (previous is None) != (chunk.index == 0):
        raise LtxRayError(
            f"expected chunk {chunk.index} to follow a tail of {chunk.overlap} latents, "
            f"got {'no chunk' if previous is None else f'one of {got}'}"
        )


def _denoised(
    transformer: Any,
    scheduler_config: Mapping[str, Any],
    conditioning: Conditioning,
    chunk: Chunk,
    previous: ChunkLatents | None,
    settings: SamplingSettings,
    on_step: Callable[[int, int], None] | None,
    noise: torch.Tensor | None,
) -> torch.Tensor:
    """The window's own latents [1, C, chunk.length, H, W], float32, before they are fused."""
    rows, columns = conditioning.rows, conditioning.columns
    tail = _tail(chunk, previous) if settings.overlap_strength > 0 else None
    image = conditioning.image if settings.image_strength > 0 else None
    extra, negative = 0 if tail is None else tail.shape[2], 0 if image is None else 1
    shape = torch.Size((1, transformer.config.in_channels, chunk.length + extra + negative, rows, columns))
    coordinates = window_coordinates(
        chunk.length, rows, columns, extra, negative, conditioning.fps, settings.rope, settings.ratios
    )
    audio = None
    if conditioning.audio is not None:
        audio = chunk_audio(conditioning.audio, chunk, extra, negative, conditioning.fps, settings.ratios).to(
            settings.device, transformer.dtype
        )
    latents = denoise_window(
        transformer,
        _noise(chunk, shape, noise).to(settings.device),
        _known(chunk, shape, tail, image, settings),
        coordinates.to(settings.device),
        sigma_schedule(
            scheduler_config, settings.num_inference_steps, chunk.length * rows * columns, settings.sigmas
        ),
        _guidance(transformer, conditioning, audio, chunk, settings),
        on_step,
        _seam_steering(chunk, previous, settings),
    )
    return latents[:, :, : chunk.length]


def _tail(chunk: Chunk, previous: ChunkLatents | None) -> torch.Tensor | None:
    """The latents [1, C, chunk.tail, H, W] of the window before that condition this one."""
    if previous is None or chunk.tail == 0:
        return None
    return previous.tail[:, :, -chunk.tail :]


def _noise(chunk: Chunk, shape: torch.Size, given: torch.Tensor | None) -> torch.Tensor:
    if given is None:
        # Drawn on the CPU, where a seed gives the same noise for every device.
        return torch.randn(shape, generator=torch.Generator().manual_seed(chunk.seed), dtype=torch.float32)
    if given.shape != shape or given.dtype != torch.float32:
        raise LtxRayError(
            f"expected float32 noise of {tuple(shape)} for chunk {chunk.index}, "
            f"got {given.dtype} of {tuple(given.shape)}"
        )
    return given


def _known(
    chunk: Chunk,
    shape: torch.Size,
    tail: torch.Tensor | None,
    image: torch.Tensor | None,
    settings: SamplingSettings,
) -> Known | None:
    """The window's latents, then the tail, then the image; None if neither conditions this window."""
    if tail is None and image is None:
        return None
    values = torch.zeros(shape, dtype=torch.float32, device=settings.device)
    freedom = torch.ones(shape[2], dtype=torch.float32, device=settings.device)
    if tail is not None:
        appended = slice(chunk.length, chunk.length + tail.shape[2])
        values[:, :, appended] = tail.to(values)
        freedom[appended] = 1.0 - settings.overlap_strength
    if image is not None:
        values[:, :, -1:] = image.to(values)
        freedom[-1] = 0.0
        if chunk.index == 0:
            values[:, :, :1] = image.to(values)
            freedom[0] = 1.0 - settings.image_strength
    return Known(values, freedom)


def _guidance(
    transformer: Any,
    conditioning: Conditioning,
    audio: AudioContext | None,
    chunk: Chunk,
    settings: SamplingSettings,
) -> Guidance:
    embeds = conditioning.prompt_embeds[[chunk.prompt]].to(settings.device, transformer.dtype)
    negative = conditioning.negative_embeds.to(settings.device, transformer.dtype)
    return Guidance(
        conditional=Condition(
            "cond", embeds, conditioning.prompt_mask[[chunk.prompt]].to(settings.device), audio
        ),
        unconditional=Condition("uncond", negative, conditioning.negative_mask.to(settings.device), audio),
        scale=settings.guidance_scale,
        audio_scale=settings.audio_guidance_scale,
    )


def _seam_steering(
    chunk: Chunk, previous: ChunkLatents | None, settings: SamplingSettings
) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What moves each step's estimate of the clean latents towards a smooth seam; None where nothing does."""
    if previous is None or settings.coherence_guidance == 0:
        return None
    tail = previous.tail.to(settings.device, torch.float32)
    return partial(_steered, tail=tail, length=chunk.length, scale=settings.coherence_guidance)


def _steered(clean: torch.Tensor, tail: torch.Tensor, length: int, scale: float) -> torch.Tensor:
    """``clean`` [1, C, T, H, W] with the window's first latents steered; appended latents stay."""
    return torch.cat([coherence_step(tail, clean[:, :, :length], scale), clean[:, :, length:]], dim=2)


def _fused(window: torch.Tensor, previous: ChunkLatents, factor: float) -> torch.Tensor:
    """``window`` [1, C, T, H, W] as it stands in the shot: its first latent is the one before's, the next are
    crossfaded with the rest of the tail, all but the first are moved towards the statistics of chunk 0."""
    tail = previous.tail.to(window)
    own = adain(window[:, :, 1:], previous.mean.to(window), previous.std.to(window), factor)
    shared = tail.shape[2] - 1
    faded = crossfade(tail[:, :, 1:], own[:, :, :shared])
    return torch.cat([tail[:, :, :1], faded, own[:, :, shared:]], dim=2)

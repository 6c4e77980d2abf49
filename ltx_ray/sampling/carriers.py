"""What goes into a chunk and what comes out of it; both become named tensors for ``ltx_ray.payload``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ltx_ray.errors import BadResultError, LtxRayError
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.coordinates import Rope

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioning:
    """What a whole shot is conditioned on: made once by the condition stage, used by each of its chunks."""

    prompt_embeds: torch.Tensor  # [N, L, D], one for each of Shot.prompts
    prompt_mask: torch.Tensor  # [N, L] bool, False: padding
    negative_embeds: torch.Tensor  # [1, L, D]
    negative_mask: torch.Tensor  # [1, L] bool
    image: torch.Tensor | None  # [1, C, 1, rows, columns], normalised latent of the first frame
    rows: int  # cells of the latent, top to bottom
    columns: int  # cells of the latent, left to right
    fps: float
    audio: AudioTrack | None = None  # the shot's sound, encoded; at batch 1

    def __post_init__(self) -> None:
        if self.prompt_embeds.shape[:2] != self.prompt_mask.shape:
            raise LtxRayError(
                f"expected prompt_mask of {tuple(self.prompt_embeds.shape[:2])}, "
                f"got {tuple(self.prompt_mask.shape)}"
            )
        if self.image is not None and self.image.shape[2:] != (1, self.rows, self.columns):
            raise LtxRayError(
                f"expected an image latent of one frame of {self.rows} x {self.columns} cells, "
                f"got {tuple(self.image.shape)}"
            )

    def to_tensors(self) -> Tensors:
        """All fields as named tensors; image and audio only where there are any."""
        tensors = {
            "prompt_embeds": self.prompt_embeds,
            "prompt_mask": self.prompt_mask,
            "negative_embeds": self.negative_embeds,
            "negative_mask": self.negative_mask,
            "cells": torch.tensor([self.rows, self.columns]),
            "fps": torch.tensor(self.fps, dtype=torch.float64),
        }
        if self.image is not None:
            tensors["image"] = self.image
        if self.audio is not None:
            tensors["audio"] = self.audio.tokens
            clock = [self.audio.start_s, self.audio.tokens_per_second]
            tensors["audio_clock"] = torch.tensor(clock, dtype=torch.float64)
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> "Conditioning":
        """What ``to_tensors`` named. Raises BadResultError if a part is missing."""
        _require(tensors, "prompt_embeds", "prompt_mask", "negative_embeds", "negative_mask", "cells", "fps")
        rows, columns = tensors["cells"].tolist()
        return cls(
            prompt_embeds=tensors["prompt_embeds"],
            prompt_mask=tensors["prompt_mask"],
            negative_embeds=tensors["negative_embeds"],
            negative_mask=tensors["negative_mask"],
            image=tensors.get("image"),
            audio=_track(tensors),
            rows=rows,
            columns=columns,
            fps=tensors["fps"].item(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSettings:
    """How chunks are denoised: the config's sampling section and the model's preset, all decided."""

    sigmas: tuple[float, ...] | None  # explicit noise levels, final; None: by the scheduler
    num_inference_steps: int  # used where sigmas is None
    guidance_scale: float  # 1: no unconditional pass
    audio_guidance_scale: float  # 1: no pass without audio
    rope: Rope
    overlap_strength: float  # 0: windows are not told of the one before; 1: its tail is kept as it is
    adain_factor: float  # 0: off; 1: statistics of chunk 0 are matched exactly
    image_strength: float  # 0: the image is not used; 1: the first latent is the image's
    coherence_guidance: float  # 0: off; how far seams are steered towards smoothness at each step
    latents_dtype: Literal["float32", "bfloat16"]  # in which latents are stored between chunks
    ratios: Ratios
    device: str  # where the transformer is


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLatents:
    """What a chunk leaves behind, on the CPU: enough to decode its part, and to go on after it.

    All are of one dtype (``SamplingSettings.latents_dtype``), the only precision in which they are ever used:
    going on from memory and from a file gives the same bits.
    """

    final: torch.Tensor  # [1, C, n, H, W]: latents [chunk.final_start, chunk.final_stop) of the shot
    tail: torch.Tensor  # [1, C, chunk.next_overlap, H, W]: the last latents of the shot so far
    mean: torch.Tensor  # [C], of chunk 0's latents, carried on unchanged
    std: torch.Tensor  # [C], likewise

    def to_tensors(self) -> Tensors:
        """All fields as named tensors."""
        return {"final": self.final, "tail": self.tail, "mean": self.mean, "std": self.std}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> "ChunkLatents":
        """What ``to_tensors`` named. Raises BadResultError if a part is missing."""
        _require(tensors, "final", "tail", "mean", "std")
        return cls(final=tensors["final"], tail=tensors["tail"], mean=tensors["mean"], std=tensors["std"])


def _track(tensors: Mapping[str, torch.Tensor]) -> AudioTrack | None:
    if "audio" not in tensors:
        return None
    _require(tensors, "audio_clock")
    start_s, rate = tensors["audio_clock"].tolist()
    return AudioTrack(tokens=tensors["audio"], start_s=start_s, tokens_per_second=rate)


def _require(tensors: Mapping[str, torch.Tensor], *names: str) -> None:
    missing = [name for name in names if name not in tensors]
    if missing:
        raise BadResultError(f"expected tensors named {', '.join(names)}, got {', '.join(tensors) or 'none'}")

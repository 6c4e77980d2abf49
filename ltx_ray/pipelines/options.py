"""What ``generate_long_video`` takes beyond the guide's arguments, with its defaults and its bounds."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ltx_ray.config import SamplingConfig
from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.sampling.coordinates import Rope

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
_SAMPLING = SamplingConfig()  # the renderer's defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class LongVideoOptions:
    """The keyword arguments of ``generate_long_video``. A name that is not here is an error."""

    negative_prompt: str = ""  # what guidance leads away from
    prompt_per: Literal["video", "chunk"] = "video"  # what the entries of a list of prompts are for
    frame_rate: float = 24.0  # frames per second
    seed: int | None = None  # of the first video, counted up for the next; None: drawn
    generator: torch.Generator | None = None  # draws the seed where none is given
    image: Image.Image | str | None = None  # the first frame: a picture, or a path or URL of one
    image_strength: float = _SAMPLING.image_strength  # 0 .. 1
    audio_latents: torch.Tensor | AudioTrack | None = None  # [1 or videos, L, A], or a track
    audio_guidance_scale: float = 1.0  # 1: no pass without audio
    overlap_strength: float = _SAMPLING.overlap_strength  # 0 .. 1: how firmly the chunk before holds
    adain_factor: float = _SAMPLING.adain_factor  # 0 .. 1: how far colours follow the first chunk
    coherence_guidance: float = _SAMPLING.coherence_guidance  # 0: off; see TemporalCoherenceLoss
    sigmas: tuple[float, ...] | None = None  # explicit noise levels instead of steps
    rope: Rope = "causal"  # times of latents; "uniform" for the models 0.9.0 and 0.9.1
    decode_timestep: float = 0.05  # for VAEs that want one
    decode_noise_scale: float = 0.025  # for VAEs that want one
    output_type: Literal["pil", "np", "pt", "latent"] = "pil"
    callback_on_step_end: Callable[..., Any] | None = None
    callback_on_chunk_end: Callable[..., Any] | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> "LongVideoOptions":
        """Checked options. Raises UserError, naming the argument, what came and what is allowed."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(given.keys() - set(known))
        if unknown:
            raise UserError(
                f"generate_long_video does not know {', '.join(unknown)}; it takes {', '.join(known)}"
            )
        if given.get("sigmas") is not None:
            given = {**given, "sigmas": tuple(float(sigma) for sigma in given["sigmas"])}
        options = cls(**given)
        options._check()
        return options

    def _check(self) -> None:
        names = ("image_strength", "overlap_strength", "adain_factor", "coherence_guidance", "sigmas", "rope")
        # The renderer's own bounds.
        SamplingConfig.checked(
            audio_guidance_scale=self.audio_guidance_scale,
            **{name: getattr(self, name) for name in names},
        )
        for name, allowed in (("prompt_per", ("video", "chunk")), ("output_type", OUTPUT_TYPES)):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("decode_timestep", "decode_noise_scale"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must be from 0 to 1, got {getattr(self, name)}")
        if not 0 < self.frame_rate < 1000:
            raise UserError(f"frame_rate must be above 0 and below 1000, got {self.frame_rate}")
        if not (self.generator is None or isinstance(self.generator, torch.Generator)):
            raise UserError(f"generator must be one torch.Generator, got {type(self.generator).__name__}")
        if self.seed is not None and not 0 <= self.seed < 2**53:
            raise UserError(f"seed must be a whole number from 0 to 2**53 - 1, got {self.seed}")

    def first_seed(self) -> int:
        """The seed, or one drawn from ``generator`` (None: from torch's own)."""
        if self.seed is not None:
            return self.seed
        device = "cpu" if self.generator is None else self.generator.device
        drawn = torch.randint(2**53, (), generator=self.generator, dtype=torch.int64, device=device)
        return int(drawn)


def as_output(frames: "list[np.ndarray[Any, Any]]", output_type: str) -> Any:
    """Frames [height, width, 3] uint8 as diffusers' pipelines return one video.

    "pil": a list of images; "np": float32 [F, H, W, 3] in [0, 1]; "pt": the same as a tensor [F, 3, H, W].
    """
    if output_type == "pil":
        return [Image.fromarray(frame) for frame in frames]
    array = np.stack(frames).astype(np.float32) / 255
    return array if output_type == "np" else torch.from_numpy(array).permute(0, 3, 1, 2)

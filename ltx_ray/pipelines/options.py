"""What ``generate_long_video`` takes beyond the guide's arguments, with its defaults and its bounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from os import PathLike, fspath
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ltx_ray.config import SamplingConfig
from ltx_ray.decoding.blend import Pixels
from ltx_ray.errors import UserError
from ltx_ray.models.audio.alignment import AudioTrack
from ltx_ray.models.presets import Preset
from ltx_ray.pipelines.arguments import as_number, as_whole
from ltx_ray.sampling.coordinates import Rope

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
_SAMPLING = SamplingConfig()  # the renderer's defaults
# Those with bounds of the renderer's own.
_SAMPLED = (
    "image_strength",
    "overlap_strength",
    "adain_factor",
    "coherence_guidance",
    "audio_guidance_scale",
)
_DECODED = ("decode_timestep", "decode_noise_scale")
_PRESET = ("adain_factor", *_DECODED)  # numbers that are the preset's where they are None


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
    adain_factor: float | None = None  # 0 .. 1: how far colours follow the first chunk; None: the preset's
    coherence_guidance: float = _SAMPLING.coherence_guidance  # 0: off; see TemporalCoherenceLoss
    sigmas: tuple[float, ...] | None = None  # explicit noise levels instead of steps
    rope: Rope | None = None  # times of latents; None: the preset's, as of the two next
    decode_timestep: float | None = None  # for VAEs that want one
    decode_noise_scale: float | None = None  # for VAEs that want one
    output_type: Literal["pil", "np", "pt", "latent"] = "pil"
    callback_on_step_end: Callable[..., Any] | None = None
    callback_on_chunk_end: Callable[..., Any] | None = None

    @classmethod
    def of(cls, given: dict[str, Any]) -> "LongVideoOptions":
        """Checked options, numbers as plain ones. Raises UserError, naming the argument, what came and what
        is allowed."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(given.keys() - set(known))
        if unknown:
            raise UserError(
                f"generate_long_video does not know {', '.join(unknown)}; it takes prompt, total_frames, "
                f"height, width, num_inference_steps, guidance_scale, {', '.join(known)}"
            )
        options = cls(**{name: _plain(name, value) for name, value in given.items()})
        options._check_kinds()
        options._check_numbers()
        return options

    def _check_kinds(self) -> None:
        for name, allowed in (("prompt_per", ("video", "chunk")), ("output_type", OUTPUT_TYPES)):
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        kinds: tuple[tuple[str, Any, str], ...] = (
            ("negative_prompt", str, "a text"),
            ("generator", torch.Generator | None, "one torch.Generator"),
            ("image", Image.Image | str | None, "a PIL image, a path or a URL"),
            ("callback_on_step_end", Callable | None, "a function"),
            ("callback_on_chunk_end", Callable | None, "a function"),
        )
        for name, kind, words in kinds:
            if not isinstance(getattr(self, name), kind):
                raise UserError(f"{name} must be {words}, got {type(getattr(self, name)).__name__}")

    def _check_numbers(self) -> None:
        SamplingConfig.checked(**{name: getattr(self, name) for name in (*_SAMPLED, "sigmas", "rope")})
        for name in _DECODED:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{name} must be from 0 to 1, got {value}")
        if not 0 < self.frame_rate < 1000:
            raise UserError(f"frame_rate must be above 0 and below 1000, got {self.frame_rate}")
        if self.seed is not None and not 0 <= self.seed < 2**53:
            raise UserError(f"seed must be a whole number from 0 to 2**53 - 1, got {self.seed}")

    def filled(self, preset: Preset) -> "LongVideoOptions":
        """With ``preset``'s values where these are None, as a render has them."""
        open_ones = [name for name in ("rope", *_PRESET) if getattr(self, name) is None]
        return replace(self, **{name: getattr(preset, name) for name in open_ones})

    @property
    def seed_given(self) -> bool:
        """Whether the caller decides the seed."""
        return self.seed is not None or self.generator is not None

    def first_seed(self) -> int:
        """The seed, or one drawn from ``generator`` (None: from torch's own)."""
        if self.seed is not None:
            return self.seed
        device = "cpu" if self.generator is None else self.generator.device
        drawn = torch.randint(2**53, (), generator=self.generator, dtype=torch.int64, device=device)
        return int(drawn)


def _plain(name: str, value: Any) -> Any:
    """The argument, with numbers as Python's own, and a path as a text."""
    if name == "image" and isinstance(value, PathLike):
        return fspath(value)
    if name in _PRESET and value is None:
        return None
    if name in (*_SAMPLED, *_DECODED, "frame_rate"):
        return as_number(name, value)
    if name == "seed" and value is not None:
        return as_whole(name, value)
    if name == "sigmas" and value is not None:
        levels = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(levels, Sequence) or isinstance(levels, str):
            raise UserError(f"sigmas must be a list of numbers, got {value!r}")
        return tuple(as_number("each of sigmas", level) for level in levels)
    return value


def as_output(videos: Sequence[Sequence[Pixels]], output_type: str) -> Any:
    """Videos of frames [height, width, 3] uint8 as diffusers' pipelines return them.

    "pil": a list of images for each; "np": float32 [B, F, H, W, 3] in [0, 1]; "pt": the same as a tensor
    [B, F, 3, H, W].
    """
    if output_type == "pil":
        return [[Image.fromarray(frame) for frame in frames] for frames in videos]
    array = np.stack([np.stack(frames).astype(np.float32) / 255 for frames in videos])
    return array if output_type == "np" else torch.from_numpy(array).permute(0, 1, 4, 2, 3)

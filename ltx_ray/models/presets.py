"""Settings of the known models: how many steps, which guidance, which times of latents, how to decode.

Sources, for all LTX-Video releases: the configs/ltxv-*.yaml of github.com/Lightricks/LTX-Video (steps,
guidance, decode timestep and noise) and the LTX-Video page of the diffusers documentation (timesteps of the
distilled models; guidance 5 for 13B dev, whose own config has a guidance schedule for two scales).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError
from ltx_ray.models.checkpoint import Checkpoint

Rope = Literal["uniform", "causal"]
Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """How one model is best used. Bytes are those of the weights in ``dtype``."""

    name: str
    num_inference_steps: int
    sigmas: tuple[float, ...] | None = None  # falling, ending in 0, not shifted again; None: the scheduler's
    guidance_scale: float  # 1: no guidance, one pass a step
    rope: Rope  # times of latents: 0, 8, 16 .. or 0, 1, 9 .. frames
    adain_factor: float = 0.25  # how far colours follow the first chunk; the default of diffusers
    decode_timestep: float | None = None  # None: the VAE wants none
    decode_noise_scale: float | None = None
    dtype: Dtype = "bfloat16"
    transformer_bytes: int
    vae_bytes: int
    text_encoder_bytes: int
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What a run samples and decodes with: the preset, where the config does not say otherwise."""

    num_inference_steps: int
    sigmas: tuple[float, ...] | None
    guidance_scale: float
    rope: Rope
    adain_factor: float
    decode_timestep: float | None
    decode_noise_scale: float | None
    dtype: Dtype


# Parameters x 2 bytes, counted on the diffusers classes with the published configs.
_2B = {"transformer_bytes": 3_846_770_944, "text_encoder_bytes": 9_524_621_312}
_13B = {"transformer_bytes": 26_085_138_688, "text_encoder_bytes": 9_524_621_312}
_VAE_090, _VAE_091, _VAE_095 = 838_387_298, 1_869_952_868, 2_493_827_044

# Timestep-conditioned decoders, from 0.9.1 on.
_DECODE: dict[str, Any] = {"decode_timestep": 0.05, "decode_noise_scale": 0.025}

# The transformers from 0.9.5 on were trained with causal times (causal_temporal_positioning in their own
# configs; LTXConditionPipeline in diffusers), the first two with 0, 8, 16 ... (LTXPipeline).
_EARLY: dict[str, Any] = {"num_inference_steps": 40, "guidance_scale": 3.0, "rope": "uniform", **_2B}
_BASE: dict[str, Any] = {**_EARLY, "rope": "causal", "vae_bytes": _VAE_095, **_DECODE}
_BASE_13B: dict[str, Any] = {**_BASE, **_13B, "num_inference_steps": 30, "guidance_scale": 5.0}

# The timesteps / 1000 of the diffusers documentation, and the end. 0.9.6 has the same sampler without the
# two-scale pipeline, so all of its eight linear-quadratic steps (threshold 0.025).
_DISTILLED_SIGMAS = (1.0, 0.993, 0.987, 0.981, 0.975, 0.909, 0.725, 0.00003, 0.0)
_DISTILLED_096_SIGMAS = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
_DISTILLED: dict[str, Any] = {
    **_BASE,
    "num_inference_steps": 8,
    "sigmas": _DISTILLED_SIGMAS,
    "guidance_scale": 1.0,
    "notes": "Distilled for steps and guidance: use its sigmas and no guidance.",
}

_ALL = (
    Preset(
        name="tiny",
        num_inference_steps=20,
        guidance_scale=3.0,
        rope="causal",  # as the chunks of long videos
        adain_factor=0.5,  # at 0.25 colours drift by 4% in a minute, of the training's scenes
        dtype="float32",
        transformer_bytes=14_528_704,
        vae_bytes=27_902_116,
        text_encoder_bytes=489_728,
        notes="The built-in miniature, for CPUs.",
    ),
    Preset(name="ltxv-2b-0.9", vae_bytes=_VAE_090, **_EARLY),
    Preset(name="ltxv-2b-0.9.1", vae_bytes=_VAE_091, **_EARLY, **_DECODE),
    Preset(name="ltxv-2b-0.9.5", **_BASE),
    Preset(name="ltxv-2b-0.9.6-dev", **_BASE),
    Preset(name="ltxv-2b-0.9.6-distilled", **_DISTILLED | {"sigmas": _DISTILLED_096_SIGMAS}),
    Preset(name="ltxv-2b-0.9.8-distilled", **_DISTILLED),
    Preset(name="ltxv-13b-0.9.7-dev", **_BASE_13B),
    Preset(name="ltxv-13b-0.9.7-distilled", **_DISTILLED | _13B),
    Preset(name="ltxv-13b-0.9.8-dev", **_BASE_13B),
    Preset(name="ltxv-13b-0.9.8-distilled", **_DISTILLED | _13B),
)
PRESETS = {preset.name: preset for preset in _ALL}


def find_preset(checkpoint: Checkpoint, name: str | None = None) -> Preset:
    """The preset called ``name``, or else the one that fits the checkpoint's configs and its own name.

    Whether the decoder is given a timestep is read from the VAE's config in both cases.
    Raises ConfigError, naming the known ones, for a ``name`` that is none of them.
    """
    if name is not None and name not in PRESETS:
        raise ConfigError(f"model.preset must be one of {', '.join(PRESETS)}, got {name!r}")
    transformer, vae = checkpoint.transformer_config(), checkpoint.vae_config()
    if name is None:
        return preset_of(transformer, vae, f"{checkpoint.name} {checkpoint.path.name}")
    return _decoding_as(vae, PRESETS[name])


def preset_of(transformer: Mapping[str, Any], vae: Mapping[str, Any], name: str = "") -> Preset:
    """The preset that fits the configs of a transformer and of a VAE, and the ``name`` of their checkpoint.

    It is the newest that agrees with the transformer's size, then with what else the name and the configs
    tell. Keys that a config lacks have the diffusers class's defaults.
    """
    return _decoding_as(vae, _guess(transformer, _is_conditioned(vae), name.lower()))


def resolve_sampling(config: RenderConfig, preset: Preset) -> Sampling:
    """Fill in what the config leaves open. A row's own steps and guidance override the result later.

    A number of steps in the config replaces the preset's sigmas too; sigmas in the config decide the number.
    """
    asked, decoding = config.sampling, config.decoding
    sigmas, steps = asked.sigmas, asked.num_inference_steps
    if sigmas is None and steps is None:
        sigmas, steps = preset.sigmas, preset.num_inference_steps
    if sigmas is not None:
        steps = len(sigmas) - (sigmas[-1] == 0)  # the scheduler ends at 0 in any case
    assert steps is not None
    timed = preset.decode_timestep is not None  # else the VAE wants none, whatever the config says
    return Sampling(
        num_inference_steps=steps,
        sigmas=sigmas,
        guidance_scale=_first(asked.guidance_scale, preset.guidance_scale),
        rope=asked.rope or preset.rope,
        adain_factor=_first(asked.adain_factor, preset.adain_factor),
        decode_timestep=_first(decoding.decode_timestep, preset.decode_timestep) if timed else None,
        decode_noise_scale=(
            _first(decoding.decode_noise_scale, preset.decode_noise_scale) if timed else None
        ),
        dtype=config.model.dtype or preset.dtype,
    )


def _first(asked: Any, otherwise: Any) -> Any:
    return otherwise if asked is None else asked


def _is_conditioned(vae: Mapping[str, Any]) -> bool:
    """Whether the VAE's decoder is given a timestep."""
    return bool(vae.get("timestep_conditioning", False))


def _decoding_as(vae: Mapping[str, Any], preset: Preset) -> Preset:
    """``preset``, with a decode timestep where the VAE wants one, and only there."""
    conditioned = _is_conditioned(vae)
    if conditioned == (preset.decode_timestep is not None):
        return preset
    decode = _DECODE if conditioned else {"decode_timestep": None, "decode_noise_scale": None}
    return replace(preset, **decode)


def _guess(config: Mapping[str, Any], conditioned: bool, name: str) -> Preset:
    """The newest that agrees; ``name`` in small letters."""
    width = config.get("num_attention_heads", 32) * config.get("attention_head_dim", 64)
    if width < 1024:
        return PRESETS["tiny"]
    size = "13b" if config.get("num_layers", 28) >= 48 else "2b"
    found = [preset for preset in _ALL if preset.name.startswith(f"ltxv-{size}-")]
    version = re.search(r"0\.9(\.[1-9])?", name)
    if version:
        found = _narrow(found, [p for p in found if p.name.split("-")[2] == version[0]])
    found = _narrow(found, [p for p in found if ("distilled" in name) == ("distilled" in p.name)])
    return _narrow(found, [p for p in found if (p.decode_timestep is not None) == conditioned])[-1]


def _narrow(found: list[Preset], agreeing: list[Preset]) -> list[Preset]:
    """Those that agree, unless none does."""
    return agreeing or found

"""The run's configuration: one frozen tree, TOML in, every field documented, cross-checked at start.

What decides the bytes of a video is hashed (``config_hash``) and belongs to OUT: a run with another hash
is refused. What only decides how fast it goes (``pools``, ``limits``), or what is measured of the videos
(``evaluate``), or told of the run (``metrics``), may change from call to call.
"""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    field_validator,
    model_validator,
)

from ltx_ray.errors import ConfigError
from ltx_ray.storage import Store
from ltx_ray.toml_text import to_toml


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def checked(cls, **values: Any) -> Self:
        """A section of these values. Raises ConfigError, in words for a person, for impossible ones."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from error


class LoraConfig(_Section):
    """A LoRA file that is added to the transformer's weights."""

    path: str  # a .safetensors file; path or fsspec URL
    weight: float = Field(1.0, ge=-10, le=10)


class ModelConfig(_Section):
    """Which checkpoint, what is added to it, and how it is loaded."""

    name: str = "tiny"  # "tiny", a folder, or a hub id; "@revision" may follow a hub id
    preset: str | None = None  # a name of ltx_ray/models/presets.py; None: found by the checkpoint
    dtype: Literal["float32", "bfloat16"] | None = None  # of the weights; None: the preset's
    # File, folder or URL of an audio adapter; None: the checkpoint's own, as tiny has one; "none": sound
    # drives nothing.
    audio_adapter: str | None = None
    lora: tuple[LoraConfig, ...] = ()  # fused in this order; a path alone has the weight 1
    quantization: Literal["none", "fp8", "int8"] = "none"  # of transformer and text encoder, weights only

    @field_validator("lora", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        entries = [value] if isinstance(value, str | dict) else value
        if not isinstance(entries, list | tuple):
            return value
        return tuple({"path": entry} if isinstance(entry, str) else entry for entry in entries)


class SamplingConfig(_Section):
    """How chunks are denoised. None means: what the model's preset says."""

    num_inference_steps: int | None = Field(None, ge=1, le=1000)
    sigmas: tuple[float, ...] | None = None  # explicit noise levels, falling, final (not shifted again)
    guidance_scale: float | None = Field(None, ge=0, le=100)
    audio_guidance_scale: float = Field(1.0, ge=0, le=100)  # 1: none; acts on shots with audio
    rope: Literal["uniform", "causal"] | None = None  # times of latents: 0, 8, 16 .. or 0, 1, 9 ..
    chunk_size: int = Field(121, ge=9, le=2049)  # frames per chunk
    overlap_frames: int = Field(24, ge=0, le=1024)  # frames shared by neighbouring chunks
    overlap_strength: float = Field(0.5, ge=0, le=1)  # 1: the tail is kept as it is while denoising
    adain_factor: float | None = Field(None, ge=0, le=1)  # 1: statistics of chunk 0 are matched exactly
    image_strength: float = Field(1.0, ge=0, le=1)  # how firmly the first frame's image holds
    coherence_guidance: float = Field(0.0, ge=0, le=10)  # how far seams are steered to be smooth; 0: off
    latents_dtype: Literal["float32", "bfloat16"] = "float32"  # stored between chunks

    @model_validator(mode="after")
    def _check(self) -> "SamplingConfig":
        if self.overlap_frames >= self.chunk_size - 8:
            raise ValueError(
                f"overlap_frames must leave at least 9 new frames in a chunk of {self.chunk_size}, "
                f"got {self.overlap_frames}"
            )
        if self.sigmas is not None:
            falling = all(a > b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
            if not self.sigmas or not falling or self.sigmas[0] > 1 or self.sigmas[-1] < 0:
                raise ValueError(f"sigmas must fall from at most 1 to at least 0, got {list(self.sigmas)}")
        return self


class DecodingConfig(_Section):
    """How latents become pixels. Cells are latent cells: 32 pixels in space for LTX, 8 frames in time."""

    halo: int = Field(4, ge=0, le=64)  # cells of context around a tile, beyond its ramp
    temporal_halo: int = Field(2, ge=1, le=64)  # latents of context around a slab, beyond its ramp
    ramp: int = Field(64, ge=0, le=1024)  # pixels over which neighbouring tiles are blended
    ramp_frames: int = Field(8, ge=0, le=256)  # frames over which neighbouring slabs are blended
    tile_size: int | None = Field(None, ge=64, le=16384)  # pixels, bounds a decoded tile's sides; None: none
    tile_overlap: int | None = Field(None, ge=0, le=4096)  # pixels; instead of halo and ramp; None: these
    slab_frames: int = Field(128, ge=16, le=4096)  # at most so many frames are decoded together
    tile_bytes: int | None = Field(None, ge=2**20)  # for a tile's activations; None: 2 GiB, 16 GiB on a GPU
    decode_timestep: float | None = Field(None, ge=0, le=1)  # None: the preset's
    decode_noise_scale: float | None = Field(None, ge=0, le=1)  # None: the preset's

    @model_validator(mode="after")
    def _check(self) -> "DecodingConfig":
        both = sorted({"halo", "ramp"} & self.model_fields_set)
        if self.tile_overlap is not None and both:
            raise ValueError(
                f"tile_overlap takes the place of halo and ramp, got tile_overlap {self.tile_overlap} and "
                f"{' and '.join(f'{name} {getattr(self, name)}' for name in both)}: give one or the other"
            )
        return self


class EncodingConfig(_Section):
    """The MP4 file. ``threads`` is fixed because it decides the encoder's bytes."""

    codec: Literal["libx264"] = "libx264"
    crf: int = Field(18, ge=0, le=51)
    preset: str = "veryfast"
    threads: int = Field(2, ge=1, le=64)
    keyframe_seconds: float = Field(2.0, gt=0, le=60)  # longest distance of keyframes
    audio_bitrate: int = Field(192_000, ge=32_000, le=512_000)
    audio_rate: int = Field(48_000, ge=8_000, le=96_000)


class DefaultsConfig(_Section):
    """Values for manifest columns that a row leaves out."""

    width: int = Field(768, ge=32)
    height: int = Field(512, ge=32)
    fps: float = Field(24.0, gt=0)
    num_frames: int = Field(121, ge=1)
    negative_prompt: str = ""


class DeviceConfig(_Section):
    """The part of the execution profile that is the device's."""

    kind: Literal["auto", "cpu", "cuda"] = "auto"  # auto: CUDA where there is one
    threads: int = Field(1, ge=1, le=256)  # torch threads of one actor on the CPU; decides the bytes
    # Type of GPU, as Ray's label ray.io/accelerator-type names it: other types may round differently. None:
    # the one that the cluster has.
    accelerator: str | None = None


class Bounds(_Section):
    """How many actors a stage may have: ``8`` is at most 8, ``"2..8"`` is 2 to 8."""

    least: int = Field(0, ge=0)  # kept also when they are idle
    most: int = Field(ge=1)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | str):
            return value
        least, _, most = str(value).rpartition("..")
        try:
            return {"least": int(least or 0), "most": int(most)}
        except ValueError:
            raise ValueError(f"must be a number, or two such as 2..8, got {value!r}") from None

    @model_validator(mode="after")
    def _check(self) -> "Bounds":
        if self.least > self.most:
            raise ValueError(f"must rise, got {self.least}..{self.most}")
        return self


class PoolsConfig(_Section):
    """How many actors each stage has. None: as many as the devices carry. Never decides the bytes."""

    conditioners: Bounds | None = None
    denoisers: Bounds | None = None
    decoders: Bounds | None = None
    assemblers: Bounds | None = None
    finishers: Bounds | None = None
    # GPUs that all stages together may take; None: those that the cluster has. With more than it has, actors
    # that wait for a place make a cluster grow that can.
    max_gpus: float | None = Field(None, gt=0)
    idle_seconds: float = Field(60, gt=0)  # after which an actor without work is let go
    gpu_shares: dict[str, float] = Field(default_factory=dict)  # GPUs per actor, by stage
    cpu_shares: dict[str, float] = Field(default_factory=dict)  # CPUs per actor, by stage
    max_downloads: int = Field(8, ge=1)  # nodes that fetch the model's weights at a time
    # Where actors of a stage rather are, if there is such a place: Ray's label ray.io/market-type.
    market: dict[str, Literal["spot", "on-demand"]] = Field(default_factory=dict)
    max_active_shots: int | None = Field(None, ge=1)  # None: two for each denoiser
    max_decoded_bytes: int = Field(4 * 1024**3, ge=2**20)  # decoded pixels in flight, all shots together


class LimitsConfig(_Section):
    """What is refused, and when a task is given up."""

    max_attempts: int = Field(3, ge=1)  # tries of one task that fail for its own reasons
    max_worker_losses: int = Field(10, ge=1)  # actors that one task may lose
    max_failures: int | None = Field(None, ge=1)  # shots that fail before the run is stopped; None: no limit
    task_seconds: float = Field(7200, gt=0)  # a task that takes longer is hung
    least_task_seconds: float = Field(300, gt=0)  # what is learnt from other tasks never says less
    # Bytes by which an actor's memory may grow, once it is warm, before it is replaced; None: by any.
    max_actor_growth: int | None = Field(4 * 1024**3, ge=2**20)
    check_pictures: bool = True  # a segment that is black or frozen throughout is made again, then failed
    max_pixels: int = Field(8192 * 8192, ge=1)  # width x height
    max_frames: int = Field(100_000, ge=1)
    max_pixels_per_shot: int | None = Field(None, ge=1)  # width x height x frames; None: no limit
    max_gpu_hours: float | None = Field(None, gt=0)  # of all tasks of a call; None: no limit
    keep_work: bool = False  # keep OUT/work of finished shots


class InputsConfig(_Section):
    """Which files rows may name, and how much of them is read. Never decides the bytes."""

    roots: tuple[str, ...] = ()  # folders, beside the manifest's own, in which local files may lie
    schemes: tuple[str, ...] = ("https",)  # of remote files that lie below no root
    # At which web servers may stand although they are private, such as 10.1.0.0/16.
    private_networks: tuple[IPvAnyNetwork, ...] = ()
    max_bytes: int = Field(4 * 1024**3, ge=1)  # of one file
    max_image_bytes: int = Field(256 * 1024**2, ge=1)  # of an image, which is read into memory
    max_image_pixels: int = Field(89_478_485, ge=1)  # width x height; a quarter of a GiB in RGB
    max_audio_seconds: float = Field(6 * 3600, gt=0)  # of a file with sound
    max_audio_channels: int = Field(64, ge=1)
    decode_seconds: float = Field(600, gt=0)  # that decoding one file's sound may take

    @field_validator("roots", mode="after")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(root if "://" in root else str(Path(root).expanduser().absolute()) for root in value)


class MetricsConfig(_Section):
    """What the coordinator tells Prometheus. Never decides the bytes."""

    port: int | None = Field(None, ge=0, le=65535)  # of /metrics; 0: any free one; None: nobody is served
    bind: str = "127.0.0.1"  # the address at which the port is open; "0.0.0.0": to the whole network
    discovery: str | None = None  # folder or URL for the targets file that Prometheus reads; None: no file
    run_name: str | None = Field(None, min_length=1, max_length=100)  # a label; None: the last part of OUT
    linger_seconds: float = Field(60.0, ge=0, le=600)  # a complete run waits so long for a last scrape
    price_per_gpu_hour: float = Field(0.0, ge=0)  # in any currency; of each GPU that an actor holds

    @field_validator("discovery", mode="after")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if value is None or "://" in value:
            return value
        return str(Path(value).expanduser().absolute())

    @model_validator(mode="after")
    def _check(self) -> "MetricsConfig":
        if self.discovery is not None and self.port is None:
            raise ValueError(
                f"discovery names a port to Prometheus, got discovery {self.discovery} and no port: set "
                "metrics.port, to 0 for any free one"
            )
        return self


class RenderConfig(_Section):
    """Everything a run is asked to do, but the manifest."""

    model: ModelConfig = ModelConfig()
    sampling: SamplingConfig = SamplingConfig()
    decoding: DecodingConfig = DecodingConfig()
    encoding: EncodingConfig = EncodingConfig()
    defaults: DefaultsConfig = DefaultsConfig()
    device: DeviceConfig = DeviceConfig()
    pools: PoolsConfig = PoolsConfig()
    limits: LimitsConfig = LimitsConfig()
    inputs: InputsConfig = InputsConfig()
    metrics: MetricsConfig = MetricsConfig()
    # Whether the bytes of a video depend on the shot, the model and this config alone. Where not, tiles for
    # which the memory does not suffice are decoded in parts, and the output manifest says so.
    reproducible: bool = True
    evaluate: bool = False  # measure each finished video; its figures are columns of the output manifest

    @classmethod
    def load(cls, path: str | None = None, overrides: tuple[str, ...] = ()) -> "RenderConfig":
        """Read a TOML file, at a path or URL, and ``key=value`` overrides such as ``sampling.chunk_size=49``.

        Values of overrides are TOML (``3``, ``0.5``, ``true``, ``[1.0, 0.5]``); what is not TOML is a string.
        Raises ConfigError for a missing or broken file and for unknown or impossible values.
        """
        tree: dict[str, Any] = {}
        if path is not None:
            tree = _read_toml(path)
        for override in overrides:
            _set(tree, override)
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ConfigError(_explain(error, "config ", f" in {path}" if path else "")) from error

    def as_toml(self) -> str:
        """What was set of it, for ``load``."""
        return to_toml(self.model_dump(mode="json", exclude_unset=True))

    def content(self) -> dict[str, Any]:
        """The sections that decide the bytes of the videos, as plain data."""
        others = {"pools", "limits", "inputs", "metrics", "reproducible", "evaluate"}
        return self.model_dump(mode="json", exclude=others)


def config_hash(content: dict[str, Any]) -> str:
    """Sixteen hexadecimal digits that name the content of a config (``RenderConfig.content``)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_toml(path: str) -> dict[str, Any]:
    folder, _, name = path.rpartition("/")
    try:
        data = Store(folder).read(name) if "://" in path else Path(path).read_bytes()
        return tomllib.loads(data.decode())
    except OSError as error:
        why = error.strerror or "no such file"
        raise ConfigError(f"--config must be a readable TOML file, got {path}: {why}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config must be TOML, got {path}: {error}") from error


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set wants section.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {key}: {part} is a value, not a section")
    tree[parts[-1]] = value


def _explain(error: ValidationError, before: str = "", after: str = "") -> str:
    """What is wrong, a sentence for each value; ``before`` and ``after`` stand around its name."""
    lines = []
    for item in error.errors():
        name = f"{before}{'.'.join(str(part) for part in item['loc'])}{after}"
        if item["type"] == "value_error":  # our own words, which say what came
            what = item["msg"].removeprefix("Value error, ")
        else:
            kind = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
            what = f"{kind}, got {item['input']!r}"
        lines.append(f"{name}: {what}" if name else what)
    return "; ".join(lines)

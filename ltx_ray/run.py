"""What a run has decided before it starts, and tells every actor: config, model, execution profile.

The bytes of a video depend on the shot and on what stands here, never on how many actors there are.
OUT/run.json keeps it; a run that decides otherwise is refused on the same OUT.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ltx_ray.config import RenderConfig, config_hash
from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES, decoder_bytes_per_cell
from ltx_ray.errors import ConfigError, StorageError
from ltx_ray.media.access import TRUSTED, Access
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.presets import Sampling, find_preset, resolve_sampling
from ltx_ray.models.weight_files import (
    adapter_url,
    check_adapter_fits,
    check_lora,
    read_weights,
    weights_hash,
)
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.plan import PlanSettings
from ltx_ray.planning.tile_bounds import check_tiles
from ltx_ray.planning.tiles import TileSettings
from ltx_ray.shard import WHOLE, Shard
from ltx_ray.storage import Store, sha256_of
from ltx_ray.version import __version__

RUN_FILE = "run.json"
ACCELERATOR_FILE = "accelerator.json"
DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run, decided. Travels to every actor."""

    out: str  # URL of the output folder
    config: RenderConfig
    model: str  # as the user named it: every node resolves it to files of its own
    revision: str | None
    model_hash: str
    sampling: Sampling
    ratios: Ratios
    bytes_per_cell: int  # of the decoder's activations, for one latent cell
    adapter_hash: str | None  # SHA-256 of the audio adapter's file
    lora_hashes: tuple[str, ...]  # likewise, of each LoRA
    device: str  # "cpu" or "cuda": of the stages that hold a part of the model
    folder: str | None = None  # of the manifest: what its rows may read lies there; None: they are trusted
    version: str = __version__

    @classmethod
    def decide(cls, config: RenderConfig, out: str, device: str, folder: str | None = None) -> "RunSpec":
        """Resolve the model and its preset. Raises ModelError or ConfigError."""
        checkpoint = resolve(config.model.name)
        sampling = resolve_sampling(config, find_preset(checkpoint, config.model.preset))
        check_tiles(config.decoding, checkpoint.ratios())
        adapter_hash = None
        adapter = checkpoint.audio_adapter(config.model.audio_adapter)
        if adapter is not None:
            url = adapter_url(adapter)
            data = read_weights(url, "the audio adapter")
            check_adapter_fits(data, url, checkpoint.transformer_config())
            adapter_hash = weights_hash(data)
        elif config.sampling.audio_guidance_scale != 1:
            raise ConfigError(
                f"sampling.audio_guidance_scale is {config.sampling.audio_guidance_scale:g}, but the run has "
                "no audio adapter that it could guide: set model.audio_adapter"
            )
        return cls(
            out=out,
            config=config,
            model=config.model.name,
            revision=checkpoint.revision,
            model_hash=checkpoint.weights_hash(),
            sampling=sampling,
            ratios=checkpoint.ratios(),
            bytes_per_cell=decoder_bytes_per_cell(checkpoint.vae_config(), DTYPE_BYTES[sampling.dtype]),
            adapter_hash=adapter_hash,
            lora_hashes=tuple(_lora_hash(lora.path) for lora in config.model.lora),
            device=device,
            folder=folder,
        )

    @property
    def checkpoint(self) -> str:
        """The model as actors resolve it: of the hub just the commit that was found when the run began."""
        return self.model if self.revision is None else f"{self.model.partition('@')[0]}@{self.revision}"

    @property
    def model_files(self) -> tuple[str, ...]:
        """What actors read besides the checkpoint: paths or URLs of LoRAs and of an audio adapter."""
        adapter = self.config.model.audio_adapter
        named = () if adapter in (None, "none") else (adapter_url(adapter),)
        return (*(lora.path for lora in self.config.model.lora), *named)

    @property
    def access(self) -> Access:
        """What the rows may read."""
        return TRUSTED if self.folder is None else Access.of_rows(self.folder, self.config.inputs)

    @cached_property
    def content(self) -> dict[str, Any]:
        """All that decides the bytes of the videos, as plain data: config, model, profile."""
        content = self.config.content()
        # A model is what its files are, wherever they lie.
        content["model"] = {
            "hash": self.model_hash,
            "dtype": self.sampling.dtype,
            "quantization": self.config.model.quantization,
            "audio_adapter": self.adapter_hash,
            "lora": [
                [digest, lora.weight]
                for digest, lora in zip(self.lora_hashes, self.config.model.lora, strict=True)
            ],
        }
        content["sampling"] |= asdict(self.sampling)
        asked = self.config.device
        content["device"] = {"kind": self.device, "threads": asked.threads}
        if asked.accelerator:
            content["device"]["accelerator"] = asked.accelerator
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain

    @cached_property
    def hash(self) -> str:
        """Names ``content`` in sixteen hexadecimal digits."""
        return config_hash(self.content)

    def plan_settings(self) -> PlanSettings:
        """What planning has to know."""
        return PlanSettings(
            chunks=ChunkSettings(
                chunk_size=self.config.sampling.chunk_size, overlap_frames=self.config.sampling.overlap_frames
            ),
            tiles=TileSettings.of(
                self.config.decoding, self.ratios, self.bytes_per_cell, DEFAULT_TILE_BYTES[self.device]
            ),
            ratios=self.ratios,
            num_inference_steps=self.sampling.num_inference_steps,
            guidance_scale=self.sampling.guidance_scale,
            audio_guidance_scale=self.config.sampling.audio_guidance_scale,
            hears=self.adapter_hash is not None,
        )


def _lora_hash(url: str) -> str:
    data = read_weights(url, "the LoRA")
    check_lora(data, url)
    return weights_hash(data)


def claim(store: Store, spec: RunSpec, shard: Shard = WHOLE) -> str:
    """Make OUT this run's, or find that it is already; the SHA-256 of its file, which never changes.

    Raises ConfigError where OUT belongs to a run that would make other bytes, naming what differs, or to one
    that is divided otherwise.
    """
    data = {
        "hash": spec.hash,
        "content": spec.content,
        "model": spec.model,
        "revision": spec.revision,
        "version": spec.version,
        "config": spec.config.model_dump(mode="json"),
        "shards": shard.count,
    }
    mine = (json.dumps(data, indent=2) + "\n").encode()
    if store.create(RUN_FILE, mine):
        return sha256_of(mine)
    try:
        found = store.read(RUN_FILE)
        theirs = json.loads(found)
        content, digest = dict(theirs["content"]), theirs["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{store.path(RUN_FILE)} should be this program's run.json: {error!r}") from error
    check_division(store, theirs, shard)
    if digest != spec.hash:
        differences = "; ".join(_differences(content, spec.content)) or "version of run.json"
        raise ConfigError(
            f"--output {store.url} belongs to a run with another config ({differences}): "
            "give the config that it was begun with, or another --output"
        )
    return sha256_of(found)


def kept_accelerator(store: Store) -> str | None:
    """The type of GPU on which OUT's shots are made; None: none was chosen yet, or none is known."""
    try:
        kind = json.loads(store.read(ACCELERATOR_FILE))["accelerator"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{store.path(ACCELERATOR_FILE)} should name a type of GPU: {error!r}") from error
    return str(kind)


def keep_accelerator(store: Store, kind: str) -> str:
    """The type of GPU on which OUT's shots are made from now on: ``kind``, unless one was chosen before."""
    if store.create(ACCELERATOR_FILE, (json.dumps({"accelerator": kind}) + "\n").encode()):
        return kind
    return kept_accelerator(store) or kind


def num_shards(run: dict[str, Any]) -> int:
    """Into how many shards a run is divided, by its run.json; those of old did not say."""
    return int(run.get("shards", 1))


def check_division(store: Store, run: dict[str, Any], shard: Shard) -> None:
    """Raise ConfigError where ``run``, which is in OUT, is divided otherwise than ``shard`` says: a row would
    be of two shards, and rendered twice."""
    count = num_shards(run)
    if count != shard.count:
        is_called = "a run without shards" if count == 1 else f"a run of {count} shards"
        wanted = "leave --shard away" if count == 1 else f"give --shard i/{count}"
        given = "no --shard was given" if shard == WHOLE else f"got --shard {shard}"
        raise ConfigError(
            f"--output {store.url} belongs to {is_called}, but {given}: {wanted}, or take another --output"
        )


def _differences(theirs: dict[str, Any], ours: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for key in sorted(theirs.keys() | ours.keys()):
        a, b = theirs.get(key), ours.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{path}{key}.")
        elif a != b:
            found.append(f"{path}{key} was {a!r}, now {b!r}")
    return found

"""Finding a checkpoint by name, and loading its parts one by one.

Each actor loads only what it needs. Weights are safetensors only, code from a checkpoint is never run, and
torch is imported only when weights are loaded.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltx_ray.checkpoints import tiny_path
from ltx_ray.errors import ModelError
from ltx_ray.models import hub
from ltx_ray.models.inspection import config_of, inspect, read_object
from ltx_ray.models.weight_files import ADAPTER_FILE, LOADING
from ltx_ray.planning.geometry import Ratios

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
    from transformers import PreTrainedTokenizerBase, T5EncoderModel

_PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
_COMMIT = re.compile("[0-9a-f]{40}")
_SUFFIXES = (".safetensors", ".json", ".model", ".txt")
# Only inside the parts' folders: the root of Lightricks/LTX-Video holds 250 GB of single-file checkpoints.
FETCHED = ["model_index.json", *(f"{part}/*{suffix}" for part in _PARTS for suffix in _SUFFIXES)]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checked folder in the diffusers format."""

    name: str  # as it was asked for, without the revision
    path: Path  # the local folder
    revision: str | None = None  # the commit on the hub; None for a folder

    def ratios(self) -> Ratios:
        """Frames per latent and pixels per cell, as AutoencoderKLLTXVideo works them out of its config."""
        config = self.vae_config()
        halvings = sum(config.get("spatio_temporal_scaling", (True, True, True, False)))
        time = config.get("temporal_compression_ratio") or config.get("patch_size_t", 1) * 2**halvings
        space = config.get("spatial_compression_ratio") or config.get("patch_size", 4) * 2**halvings
        return Ratios(time=time, space=space)

    def vae_config(self) -> dict[str, Any]:
        """vae/config.json as it stands; keys that it lacks have the diffusers class's defaults."""
        return config_of(self.path, "vae")

    def transformer_config(self) -> dict[str, Any]:
        """transformer/config.json as it stands; keys that it lacks have the diffusers class's defaults."""
        return config_of(self.path, "transformer")

    def scheduler_config(self) -> dict[str, Any]:
        """scheduler/scheduler_config.json as it stands, to be given to the scheduler's ``from_config``."""
        return config_of(self.path, "scheduler")

    def audio_adapter(self, asked: str | None) -> str | None:
        """The audio adapter that ``model.audio_adapter`` means: path or URL; None: sound drives nothing.

        Where nothing is ``asked`` for it is the one that comes with the checkpoint, as with ``tiny``.
        """
        if asked is not None:
            return None if asked == "none" else asked
        own = self.path / ADAPTER_FILE
        return str(own) if own.is_file() else None

    def weights_hash(self) -> str:
        """SHA-256, hexadecimal, over the names and contents of all files that decide what the model makes.

        Reads the whole checkpoint once per process; a file is read again when its size or time changes.
        """
        return self._hash(self._files())

    def part_hash(self, part: str) -> str:
        """As ``weights_hash``, of the files of one part, such as ``vae``."""
        return self._hash(path for path in self._files() if path.parent.name == part)

    def load_vae(self, dtype: "torch.dtype", device: "torch.device | str") -> "AutoencoderKLLTXVideo":
        """The VAE, frozen, in eval mode. Raises ModelError if its weights do not fit its config."""
        from diffusers import AutoencoderKLLTXVideo

        return _load(AutoencoderKLLTXVideo, self.path / "vae", dtype, device)

    def load_transformer(
        self, dtype: "torch.dtype", device: "torch.device | str"
    ) -> "LTXVideoTransformer3DModel":
        """The transformer, frozen, in eval mode. Raises ModelError if its weights do not fit its config."""
        from diffusers import LTXVideoTransformer3DModel

        return _load(LTXVideoTransformer3DModel, self.path / "transformer", dtype, device)

    def load_text_encoder(
        self, dtype: "torch.dtype", device: "torch.device | str"
    ) -> "tuple[PreTrainedTokenizerBase, T5EncoderModel]":
        """The tokenizer and the text encoder, frozen, in eval mode. Raises ModelError as ``load_vae``."""
        import transformers

        # The class that model_index.json names, as diffusers does it; ``inspect`` has checked the name.
        tokenizer_class = getattr(transformers, read_object(self.path / "model_index.json")["tokenizer"][-1])
        folder = self.path / "tokenizer"
        try:
            tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # tokenizers raises bare Exception for a broken file
            raise ModelError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
        return tokenizer, _load(transformers.T5EncoderModel, self.path / "text_encoder", dtype, device)

    def _hash(self, files: Iterable[Path]) -> str:
        total = hashlib.sha256()
        for file in sorted(files):
            stat = file.stat()
            digest = _file_hash(file, stat.st_size, stat.st_mtime_ns)
            total.update(f"{file.relative_to(self.path).as_posix()}\0{digest}\n".encode())
        return total.hexdigest()

    def _files(self) -> Iterator[Path]:
        yield self.path / "model_index.json"
        for part in _PARTS:
            yield from (path for path in (self.path / part).iterdir() if path.suffix in _SUFFIXES)


def resolve(name: str, *, fetch: bool = True) -> Checkpoint:
    """The checkpoint that ``name`` means: ``tiny``, a folder, or a hub id, perhaps with ``@revision``.

    A hub id is fetched into the Hugging Face cache, or found there; HF_HUB_OFFLINE=1 forbids the network. One
    with a whole commit that is in the cache, whole, is not asked for.
    Raises ModelError where nothing is found, or what is found cannot be used; without ``fetch``
    ModelAbsentError where a hub id is not in the cache.
    """
    folder = Path(name).expanduser()
    if name == "tiny":
        checkpoint = Checkpoint(name, tiny_path())
    elif folder.is_dir():
        checkpoint = Checkpoint(name, folder.resolve())
    elif name.startswith((".", "/", "~")):
        raise ModelError(f"the model must be 'tiny', a folder or a hub id, got {name!r}: no such folder")
    else:
        return _of_the_hub(name, fetch)
    inspect(checkpoint.path)
    return checkpoint


def _of_the_hub(name: str, fetch: bool) -> Checkpoint:
    repository, _, revision = name.partition("@")
    if fetch and _COMMIT.fullmatch(revision):
        # A commit never changes: a thousand actors need not ask the hub whether it has.
        with suppress(ModelError):
            return _of_the_hub(name, fetch=False)
    path = (hub.fetch if fetch else hub.cached)(repository, revision or None, FETCHED)
    inspect(path)
    # A snapshot's folder is named by its commit.
    return Checkpoint(repository, path, path.name)


@lru_cache(maxsize=1024)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """SHA-256 of a file; ``size`` and ``mtime_ns`` are there to tell a changed file from a known one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load(kind: Any, folder: Path, dtype: "torch.dtype", device: "torch.device | str") -> Any:
    """A model of the class ``kind`` from ``folder``; random weights where some are missing are an error."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        with LOADING:
            model, report = kind.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"the weights in {folder} cannot be loaded as {kind.__name__}: {error}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights in {folder} lack {len(missing)} of the tensors of {kind.__name__}, "
            f"first {missing[0]}; fetch the checkpoint again"
        )
    return model.eval().requires_grad_(False).to(device)

"""Weights that a run adds to its model (audio adapter, LoRA): read, hashed, checked; without torch."""

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from typing import Any

import fsspec

from ltx_ray.errors import ModelError

# Held while a model is made: torch, diffusers and transformers make modules without memory by changing what
# the whole process does, so threads that load at once would leave each other weights on the device meta.
LOADING = threading.RLock()

ADAPTER_FILE = "audio_adapter.safetensors"
ADAPTER_FORMAT = "ltx_ray audio adapter 1"
ADAPTER_METADATA = "audio_adapter"
# Names of diffusers' pipelines and transformers, and LTX-Video's own; kohya's down and up are A and B.
LORA_KEY = re.compile(
    r"(?:transformer\.|diffusion_model\.|(?=transformer_blocks\.|proj_|caption_|time_embed\.))"
    r"(.+)\.(lora_(?:A|B|down|up)\.weight|alpha)"
)


def adapter_url(path: str) -> str:
    """The file that ``path`` means: itself, or the adapter in a folder."""
    return path if path.endswith(".safetensors") else f"{path.rstrip('/')}/{ADAPTER_FILE}"


def read_weights(url: str, wanted: str, sha256: str | None = None) -> bytes:
    """The bytes of a file of weights at a path or fsspec URL; ``wanted`` names it in messages.

    Raises ModelError where it cannot be read, is no safetensors file (pickles are never loaded), is cut, or
    is not the one that the run was begun with (``sha256``, hexadecimal).
    """
    try:
        with fsspec.open(url, "rb") as file:
            data = bytes(file.read())
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{wanted} must be a readable .safetensors file, got {url}: {error}") from error
    header = _header(data, url, wanted)
    try:
        stops = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (TypeError, KeyError, IndexError) as error:
        raise ModelError(f"{wanted} must be a safetensors file, got {url}: its header is broken") from error
    needed = 8 + int.from_bytes(data[:8], "little") + max(stops, default=0)
    if len(data) != needed:
        raise ModelError(
            f"{wanted} {url} is cut short or damaged: its header wants {needed} bytes, got {len(data)}"
        )
    if sha256 is not None and weights_hash(data) != sha256:
        raise ModelError(
            f"{wanted} {url} has changed since the run began (SHA-256 was {sha256[:12]}, now "
            f"{weights_hash(data)[:12]}): put the first one back, or begin another run with another --output"
        )
    return data


def weights_hash(data: bytes) -> str:
    """SHA-256 of a file of weights, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def adapter_description(data: bytes, url: str) -> dict[str, Any]:
    """What an audio adapter's file says of itself: ``layers``, ``hidden_dim``, ``encoder``.

    Raises ModelError where the file is no audio adapter.
    """
    try:
        description: dict[str, Any] = json.loads(file_metadata(data)[ADAPTER_METADATA])
        known = description["format"]
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(
            f"{url} is no audio adapter of ltx_ray (no {ADAPTER_METADATA!r} in its metadata): give a file "
            "that AudioAdapter.save_pretrained wrote"
        ) from error
    if known != ADAPTER_FORMAT:
        raise ModelError(f"{url} must be of the format {ADAPTER_FORMAT!r}, got {known!r}")
    for part, kind in (("hidden_dim", int), ("layers", dict), ("encoder", dict)):
        if not isinstance(description.get(part), kind):
            raise ModelError(f"the audio adapter {url} is damaged: it lacks its {part}; fetch it again")
    return description


def check_adapter_fits(data: bytes, url: str, transformer: Mapping[str, Any]) -> None:
    """Raise ModelError unless an adapter's file was made for a transformer of this config."""
    description = adapter_description(data, url)
    _check_shapes(_header(data, url, "the audio adapter"), description, url)
    width = transformer.get("num_attention_heads", 32) * transformer.get("attention_head_dim", 64)
    layers = transformer.get("num_layers", 28)
    last = description["layers"].get("end_layer", layers)
    if description["hidden_dim"] != width or last >= layers:
        raise ModelError(
            f"the audio adapter {url} was made for a transformer {description['hidden_dim']} wide with a "
            f"layer {last}, got a model {width} wide with {layers} layers: use the adapter of this model"
        )


def _check_shapes(header: Mapping[str, Any], description: Mapping[str, Any], url: str) -> None:
    """Raise ModelError where the layers that a file describes are not those that it holds."""
    width, layers = description["hidden_dim"], description["layers"]
    for index in range(layers.get("start_layer", 0), layers.get("end_layer", -1) + 1):
        name = f"blocks.{index}.to_q.weight"
        shape = header.get(name, {}).get("shape")
        if shape != [width, width]:
            raise ModelError(
                f"the audio adapter {url} is damaged: its {name} must be [{width}, {width}], got {shape}; "
                "fetch it again"
            )


def check_lora(data: bytes, url: str) -> None:
    """Raise ModelError unless a file holds LoRA matrices for LTX's transformer, and nothing else."""
    names = [name for name in _header(data, url, "the LoRA") if name != "__metadata__"]
    foreign = next((name for name in names if LORA_KEY.fullmatch(name) is None), None)
    if foreign is not None or not names:
        raise ModelError(
            f"the LoRA {url} must hold weights for LTX's transformer"
            + (
                ", got none"
                if foreign is None
                else f" (transformer.* or diffusion_model.*, A, B and alpha of its layers) and nothing else, "
                f"got {foreign}; save it with LTXPipeline.save_lora_weights(transformer_lora_layers=...)"
            )
        )


def file_metadata(data: bytes) -> dict[str, str]:
    """The metadata of a whole safetensors file: texts by name."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return found


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a pickle, also as torch.save writes it, in a zip file."""
    return head.startswith((b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(2, 6))))


def _header(data: bytes, url: str, wanted: str) -> dict[str, Any]:
    """The JSON header of a safetensors file; its length are the file's first 8 bytes."""
    length = int.from_bytes(data[:8], "little")
    if is_pickle(data[:4]) and length > len(data) - 8:
        raise ModelError(
            f"{wanted} must be a safetensors file, got {url}, which is a pickle: those can run code and are "
            "never loaded; save it with safetensors.torch.save_file"
        )
    try:
        header = json.loads(data[8 : 8 + length]) if 0 < length <= len(data) - 8 else None
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ModelError(f"{wanted} must be a safetensors file, got {url}: its header is broken")
    return header

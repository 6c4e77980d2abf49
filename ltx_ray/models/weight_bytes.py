"""Bytes of a checkpoint's parts in memory, by the headers of their files: known before anything is loaded."""

import json
import re
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ltx_ray.models.inspection import weight_files

# Parts of names of weights that quantization leaves alone, and why.
KEPT = re.compile(
    r"norm"  # scales of a few values that act on all; also the adaptive norms' projections
    r"|embed|adaln"  # timesteps and adaptive norm, which decide what every layer does; tables of tokens
    r"|(^|\.)(proj|conv)_(in|out)(\.|$)"  # between latents or pixels and the model: errors reach the picture
    r"|caption_projection"  # what all layers hear of the text, in 0.7% of the weights
    r"|gate|lora_"  # a gate multiplies all of a layer; adapters are small, and are merged before
)
# Tables of T5, which are no layers that could be quantized.
_TABLES = re.compile(r"(^|\.)(shared|relative_attention_bias)\.")
_LAYER_AXES = (2, 5)  # of the weights of linear layers, and of convolutions in space and time
_TOGETHER = 3  # layers of one feed-forward part are brought back together


@dataclass(frozen=True, slots=True)
class PartBytes:
    """Of a part of a model."""

    weights: int  # as they lie there
    restored: int  # of quantized layers that are brought back to be computed with, at a time; else 0


def part_bytes(folder: Path, part: str, dtype_bytes: int, quantization: str = "none") -> PartBytes:
    """The part of the checkpoint in ``folder``, loaded in a dtype of so many bytes and then quantized.

    Raises ModelError where it has no weights.
    """
    total = largest = 0
    for name, entry in _tensors(folder, part):
        count = prod(entry["shape"])
        if quantization != "none" and _is_quantized(name, entry["shape"]):
            total += count + (entry["shape"][0] * dtype_bytes if quantization == "int8" else 0)
            largest = max(largest, count * dtype_bytes)
        else:
            total += count * dtype_bytes
    return PartBytes(total, largest * _TOGETHER)


def _tensors(folder: Path, part: str) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for path in weight_files(folder, part):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        found += [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    return found


def _is_quantized(name: str, shape: list[int]) -> bool:
    layer, _, kind = name.rpartition(".")
    is_layer = kind == "weight" and len(shape) in _LAYER_AXES and not _TABLES.search(name)
    return is_layer and not KEPT.search(layer)

"""SHA-256 of a model in memory: its weights, wherever they lie, and what says how they are used."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ltx_ray.errors import UserError

_PIECE_BYTES = 2**26  # copied from a GPU at once


def model_hash(model: nn.Module) -> str:
    """Hexadecimal, over config, active LoRAs, feature cache, and the names, shapes, dtypes and bytes of all
    weights. Offloading and the device do not change it.

    Raises UserError for weights that were offloaded to where they cannot be read.
    """
    _check_in_memory(model)
    total = hashlib.sha256(_use(model).encode())
    for name, weight in sorted(model.state_dict().items()):
        total.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        for piece in _pieces(_present(model, name, weight)):
            total.update(piece)
    return total.hexdigest()


def bytes_hash(tensor: Tensor) -> str:
    """SHA-256, hexadecimal, of a tensor's bytes."""
    total = hashlib.sha256()
    for piece in _pieces(tensor):
        total.update(piece)
    return total.hexdigest()


def _pieces(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor, in pieces that are on the CPU one at a time."""
    flat = tensor.detach().reshape(-1)
    length = max(_PIECE_BYTES // flat.element_size(), 1)
    for start in range(0, len(flat), length):
        # numpy has no bfloat16 and no fp8.
        yield flat[start : start + length].cpu().contiguous().view(torch.uint8).numpy().data


def _present(model: nn.Module, name: str, weight: Tensor) -> Tensor:
    """The weight, or what accelerate's offloading hooks hold for it."""
    if not weight.is_meta:
        return weight
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        hook = getattr(model.get_submodule(".".join(path[:depth])), "_hf_hook", None)
        for part in getattr(hook, "hooks", (hook,)):
            held: Mapping[str, Tensor] = getattr(part, "weights_map", None) or {}
            found = held.get(".".join(path[depth:]))
            if found is not None:
                return found
    raise _unreadable(model, f"{name} is on the device meta")


def _check_in_memory(model: nn.Module) -> None:
    for name, module in model.named_modules():
        hooks = getattr(module, "_diffusers_hook", None)
        group = getattr(hooks and hooks.get_hook("group_offloading"), "group", None)
        # On the disk, what stands for a weight in memory is whatever was there before.
        if getattr(group, "offload_to_disk_path", None) is not None:
            raise _unreadable(model, f"{name or 'it'} is group-offloaded to a disk")


def _unreadable(model: nn.Module, why: str) -> UserError:
    return UserError(
        f"the weights of {type(model).__name__} must be readable to tell one streamed call from another, but "
        f"{why}: offload it to memory, or call disable_streaming()"
    )


def _use(model: nn.Module) -> str:
    """What says how the weights are used."""
    config: Any = getattr(model, "config", {})
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    cache = getattr(model, "_cache_config", None)
    loras = {
        name: [module.active_adapters, module.disable_adapters, module.scaling]
        for name, module in model.named_modules()
        if hasattr(module, "active_adapters") and hasattr(module, "scaling")
    }
    told = {
        "config": {key: value for key, value in config.items() if not key.startswith("_")},
        "cache": None if cache is None else [type(cache).__name__, vars(cache)],
        "loras": loras,
    }
    return json.dumps(told, sort_keys=True, default=lambda value: type(value).__name__)

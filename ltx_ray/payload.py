"""Named tensors as one safetensors blob: the same bytes in memory, in a Ray object and in a file."""

from collections.abc import Mapping

import torch
from safetensors.torch import load, save

from ltx_ray.errors import BadResultError


def pack(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The tensors, on any device, as the bytes of a safetensors file."""
    return bytes(save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}))


def unpack(blob: bytes) -> dict[str, torch.Tensor]:
    """The CPU tensors that ``pack`` was given. Raises BadResultError if the bytes are not whole."""
    try:
        return dict(load(bytes(blob)))
    except Exception as error:  # safetensors raises its own error type, which is no stable API
        raise BadResultError(f"expected a whole safetensors file, got {len(blob)} bytes: {error}") from error

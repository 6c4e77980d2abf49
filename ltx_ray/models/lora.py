"""LoRA files, fused into a transformer's weights before anything else is done with them."""

import json
from typing import Any

from torch import Tensor, nn

from ltx_ray.errors import ModelError
from ltx_ray.models.weight_files import LORA_KEY, check_lora, file_metadata, read_weights

# Where diffusers' save_lora_weights keeps the LoRA's configuration: rank and alpha, as JSON.
_METADATA = "lora_adapter_metadata"
_NAME = "lora"  # of the one adapter that is there between loading and fusing
_PARTS = {"lora_A.weight": "A", "lora_down.weight": "A", "lora_B.weight": "B", "lora_up.weight": "B"}


def fuse_lora(transformer: Any, url: str, weight: float = 1.0, sha256: str | None = None) -> None:
    """Add ``weight`` times the LoRA at ``url`` to the weights of an LTX ``transformer``, in place.

    ``url`` is a .safetensors file in diffusers' or in LTX-Video's own naming. Fused, it costs nothing at
    each step, and quantization sees the sum. Raises ModelError where the file is no LoRA of this transformer,
    holds something else too (nothing of it is left out in silence), or is not the one of ``sha256``.
    """
    from safetensors.torch import load

    data = read_weights(url, "the LoRA", sha256)
    check_lora(data, url)
    layers = _layers(load(data))
    for name, parts in layers.items():
        _check_layer(transformer, name, parts, url)
    state = {
        f"transformer.{name}.lora_{part}.weight": matrix
        for name, parts in layers.items()
        for part, matrix in (("A", parts["A"]), ("B", parts["B"] * _scale(parts)))
    }
    try:
        metadata = _metadata(data)
        transformer.load_lora_adapter(state, prefix="transformer", adapter_name=_NAME, metadata=metadata)
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(f"the LoRA {url} does not fit this transformer: {error}") from error
    transformer.fuse_lora(lora_scale=weight, adapter_names=[_NAME])
    transformer.unload_lora()


def _metadata(data: bytes) -> dict[str, Any] | None:
    """The LoRA's configuration, where the file has one, under the names of a pipeline's."""
    found = json.loads(file_metadata(data).get(_METADATA, "null"))
    if found is None:
        return None
    # A transformer's own save_lora_adapter leaves the prefix away.
    return {key if key.startswith("transformer.") else f"transformer.{key}": found[key] for key in found}


def _layers(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """A, B and alpha of each layer, in float32."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        match = LORA_KEY.fullmatch(key)
        assert match is not None, f"check_lora let {key} through"
        layers.setdefault(match[1], {})[_PARTS.get(match[2], "alpha")] = tensor.float()
    return layers


def _scale(parts: dict[str, Tensor]) -> float:
    """An alpha that stands beside the matrices, over their rank."""
    return float(parts["alpha"]) / parts["A"].shape[0] if "alpha" in parts else 1.0


def _check_layer(transformer: nn.Module, name: str, parts: dict[str, Tensor], url: str) -> None:
    if not {"A", "B"} <= parts.keys():
        raise ModelError(f"the LoRA {url} must hold A and B of each layer, got one of {name}")
    weight = getattr(dict(transformer.named_modules()).get(name), "weight", None)
    if weight is None:
        raise ModelError(f"the LoRA {url} is of another model: its layer {name} has a LoRA, but is not there")
    a, b = tuple(parts["A"].shape), tuple(parts["B"].shape)
    if len(a) != 2 or len(b) != 2 or (b[0], a[1]) != tuple(weight.shape) or a[0] != b[1]:
        raise ModelError(
            f"the LoRA {url} is of another model: its layer {name} has A {a} and B {b}, but this "
            f"transformer's is {tuple(weight.shape)}"
        )

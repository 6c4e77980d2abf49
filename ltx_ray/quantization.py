"""Smaller weights: eight bits for those of the large layers, full precision for all that is sensitive.

Only storage is quantized. A layer's weight is brought back to the model's own dtype for each forward, so
inputs, activations and ``model.dtype`` stay what they were, and every device that has the model's dtype can
compute.

The VAE of a pipeline is left alone: it is less than a tenth of the weights, and its errors are seen as they
are, with no later step to mend them.

int8 is written here, and not taken from torchao: that is bound to versions of torch, takes 1.3 s to import,
and knows no convolutions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltx_ray.errors import ConfigError, UserError
from ltx_ray.models.weight_bytes import KEPT

Mode = Literal["fp8", "int8", "none"]

# Layers of transformers that cast what is given to their inner layer ``wo`` to the dtype of wo's weight,
# which at rest is fp8: brought back as a whole, before they look.
_LOOK_INSIDE = ("T5DenseActDense", "T5DenseGatedActDense")
_COMPUTED = (torch.float32, torch.bfloat16, torch.float16)
_INT8_STEPS = 127


@dataclass(frozen=True, slots=True)
class QuantizedPart:
    """What became of one model."""

    name: str  # of the pipeline's component, or the model's class
    layers: int  # whose weights are now quantized
    bytes_before: int  # of all parameters and buffers
    bytes_after: int


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """What ``quantize_model`` did. ``str`` of it is a line for each part."""

    mode: Mode
    parts: tuple[QuantizedPart, ...]

    @property
    def bytes_before(self) -> int:
        """Of all parts."""
        return sum(part.bytes_before for part in self.parts)

    @property
    def bytes_after(self) -> int:
        """Of all parts."""
        return sum(part.bytes_after for part in self.parts)

    def __str__(self) -> str:
        return "\n".join(
            f"{part.name}: {part.layers} layers in {self.mode}, {part.bytes_before / 1e6:,.1f} MB -> "
            f"{part.bytes_after / 1e6:,.1f} MB ({part.bytes_after / max(part.bytes_before, 1):.0%})"
            for part in self.parts
        )


def quantize_model(pipeline_or_model: Any, mode: Mode = "fp8") -> QuantizationReport:
    """Quantize weights in place, of a pipeline's transformer and text encoder or of one model.

    ``fp8``: float8_e4m3fn, without a scale, by diffusers' layerwise casting. ``int8``: steps of 1/127 of the
    largest weight of each output channel. ``none``: nothing is changed, the report says what there is.

    The quantized layers are frozen: this is for inference. LoRA files are fused before, and the model is
    moved (``.to(device)``) but not cast (``.to(dtype)``) afterwards. Offloading hooks come after, too.

    Raises ConfigError for another mode, a model that is quantized already, hooked, or in a dtype to which
    nothing can be brought back, a device without fp8, weights that are not finite or too large for fp8;
    UserError for what is neither pipeline nor model, and for models without a layer to quantize.
    """
    if mode not in get_args(Mode):
        raise ConfigError(
            f"the mode of quantization must be one of {', '.join(get_args(Mode))}, got {mode!r}"
        )
    models = _models(pipeline_or_model)
    if mode == "none":
        sizes = {name: _num_bytes(model) for name, model in models.items()}
        return QuantizationReport(mode, tuple(QuantizedPart(name, 0, n, n) for name, n in sizes.items()))
    # All are checked before one is changed.
    layers = {name: _layers(name, model, mode) for name, model in models.items()}
    return QuantizationReport(
        mode, tuple(_quantized(name, model, layers[name], mode) for name, model in models.items())
    )


class Int8Linear(nn.Linear):
    """A linear layer with ``weight`` int8 [out, in] and ``scale`` [out, 1], in the dtype that is computed
    in."""

    scale: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight * self.scale, self.bias)


class Int8Conv3d(nn.Conv3d):
    """A convolution with ``weight`` int8 [out, in, t, h, w] and ``scale`` [out, 1, 1, 1, 1]."""

    scale: Tensor

    def forward(self, input: Tensor) -> Tensor:
        made: Tensor = self._conv_forward(input, self.weight * self.scale, self.bias)
        return made


# By exact type: a subclass may use its weight by itself, as the one in MultiheadAttention does.
_INT8: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Int8Linear, nn.Conv3d: Int8Conv3d}


def _models(pipeline_or_model: Any) -> dict[str, nn.Module]:
    if isinstance(pipeline_or_model, nn.Module):
        return {type(pipeline_or_model).__name__: pipeline_or_model}
    pipeline = getattr(pipeline_or_model, "base_pipeline", pipeline_or_model)
    found = {name: getattr(pipeline, name, None) for name in ("transformer", "text_encoder")}
    models = {name: model for name, model in found.items() if isinstance(model, nn.Module)}
    if not models:
        raise UserError(
            "quantize_model takes a model (torch.nn.Module) or a pipeline that has one as its transformer or "
            f"text_encoder, got {type(pipeline_or_model).__name__}"
        )
    return models


def _layers(name: str, model: nn.Module, mode: Mode) -> dict[str, nn.Module]:
    """The layers of ``model`` to be quantized, by their names; all of one dtype, the model's."""
    if any(parameter.dtype in (torch.float8_e4m3fn, torch.int8) for parameter in model.parameters()):
        raise ConfigError(f"{name} is quantized already: quantize a model once, after it is loaded")
    layers = {
        path: module
        for path, module in model.named_modules()
        if type(module) in _INT8 and not KEPT.search(path)
    }
    if not layers:
        raise UserError(
            f"expected a model with layers to quantize, got {name}, all of whose weights are kept"
        )
    dtype: torch.dtype = getattr(model, "dtype", None) or next(_weights(layers)).dtype
    if dtype not in _COMPUTED:
        raise ConfigError(
            f"{name} must be in {', '.join(str(known) for known in _COMPUTED)} to be quantized, got {dtype}"
        )
    # transformers keeps the layers that float16 would overflow in float32.
    layers = {path: layer for path, layer in layers.items() if layer.weight.dtype == dtype}
    for path, layer in layers.items():
        _check(f"{name}.{path}", layer, mode)
    if mode == "fp8":
        for device in {weight.device for weight in _weights(layers)}:
            _check_float8(device)
    return layers


def _weights(layers: Mapping[str, nn.Module]) -> Iterator[Tensor]:
    for layer in layers.values():
        assert isinstance(layer.weight, Tensor)
        yield layer.weight


def _check(path: str, layer: nn.Module, mode: Mode) -> None:
    if "forward" in vars(layer):
        raise ConfigError(f"{path} is hooked: quantize a model before offloading, caching or compiling it")
    assert isinstance(layer.weight, Tensor)
    if layer.weight.is_meta:
        return
    largest = layer.weight.detach().abs().max().item()
    limit = torch.finfo(torch.float8_e4m3fn).max if mode == "fp8" else torch.finfo(torch.float32).max
    if not largest <= limit:
        raise ConfigError(
            f"weights up to {limit:g} can be quantized to {mode}, got {largest:g} in {path}"
            + ("; use int8, which is scaled" if mode == "fp8" and largest > limit else "")
        )


def _check_float8(device: torch.device) -> None:
    try:
        torch.zeros(1, device=device).to(torch.float8_e4m3fn).to(torch.float32)
    except (RuntimeError, TypeError) as error:  # NotImplementedError is a RuntimeError
        reason = str(error).partition(". ")[0]
        raise ConfigError(
            f"fp8 needs a device that can store float8_e4m3fn, got {device} ({reason}); use int8"
        ) from error


def _quantized(name: str, model: nn.Module, layers: dict[str, nn.Module], mode: Mode) -> QuantizedPart:
    before = _num_bytes(model)
    for layer in layers.values():
        layer.requires_grad_(False)
    if mode == "int8":
        for layer in layers.values():
            _to_int8(layer)
    else:
        _to_fp8(model, layers)
    return QuantizedPart(name, len(layers), before, _num_bytes(model))


def _to_int8(layer: nn.Module) -> None:
    """Absolute maximum per output channel; the scale is rounded first, so that its error is not added."""
    assert isinstance(layer.weight, Tensor)
    weight = layer.weight.detach()
    largest = weight.float().abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    scale = (largest / _INT8_STEPS).to(weight.dtype).clamp(min=torch.finfo(weight.dtype).tiny)
    steps = (weight.float() / scale.float()).round().clamp(-_INT8_STEPS, _INT8_STEPS)
    layer.weight = nn.Parameter(steps.to(torch.int8), requires_grad=False)
    layer.register_buffer("scale", scale)
    layer.__class__ = _INT8[type(layer)]


def _to_fp8(model: nn.Module, layers: dict[str, nn.Module]) -> None:
    from diffusers.hooks import apply_layerwise_casting

    hooked = dict(layers)
    for path, module in model.named_modules():
        inner = {f"{path}.{child}" for child, layer in module.named_children() if type(layer) in _INT8}
        if type(module).__name__ in _LOOK_INSIDE and inner <= layers.keys():
            hooked = {name: layer for name, layer in hooked.items() if name not in inner} | {path: module}
    dtype = next(_weights(layers)).dtype
    for module in hooked.values():
        # Without patterns the module itself is cast, bias and all.
        apply_layerwise_casting(module, torch.float8_e4m3fn, dtype, skip_modules_pattern=None)


def _num_bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensors in (model.parameters(), model.buffers()) for tensor in tensors)

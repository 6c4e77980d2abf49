"""What cannot be quantized is refused, with what to do, and left as it was."""

from typing import Any

import pytest
import torch
from quantizable import MODES, pipeline, wide
from torch import nn

from ltx_ray.errors import ConfigError, UserError
from ltx_ray.quantization import _check_float8, quantize_model


@pytest.mark.parametrize("mode", MODES)
def test_no_model_is_quantized_twice(mode: str) -> None:
    model = wide()
    quantize_model(model, mode)
    for again in MODES:
        with pytest.raises(ConfigError, match="LTXVideoTransformer3DModel is quantized already"):
            quantize_model(model, again)


def test_a_pipeline_of_which_one_part_is_refused_is_left_as_it_was() -> None:
    made_by = pipeline()
    quantize_model(made_by.text_encoder, "int8")
    with pytest.raises(ConfigError, match="text_encoder is quantized already"):
        quantize_model(made_by, "fp8")
    assert {parameter.dtype for parameter in made_by.transformer.parameters()} == {torch.float32}


@pytest.mark.parametrize("mode", ["fp4", "FP8", "", None])
def test_another_mode_is_refused(mode: Any) -> None:
    with pytest.raises(ConfigError, match="must be one of fp8, int8, none, got"):
        quantize_model(wide(), mode)


@pytest.mark.parametrize("thing", [None, "tiny", 3, object()])
@pytest.mark.parametrize("mode", [*MODES, "none"])
def test_what_is_no_model_is_refused(thing: Any, mode: str) -> None:
    with pytest.raises(UserError, match=f"takes a model .* or a pipeline .* got {type(thing).__name__}"):
        quantize_model(thing, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_model_of_which_all_is_kept_is_refused(mode: str) -> None:
    with pytest.raises(UserError, match="expected a model with layers to quantize, got LayerNorm"):
        quantize_model(nn.LayerNorm(8), mode)


def test_a_device_without_fp8_is_refused() -> None:
    # Nothing can be stored there from here either: the error is torch's own.
    with pytest.raises(ConfigError, match=r"that can store float8_e4m3fn, got mps \(Could.*\); use int8$"):
        _check_float8(torch.device("mps"))
    _check_float8(torch.device("cpu"))


@pytest.mark.parametrize(
    ("mode", "weight", "message"),
    [
        ("fp8", 1e3, "weights up to 448 can be quantized to fp8, got 1000 in .*ff.net.2; use int8"),
        ("fp8", float("nan"), "got nan in .*ff.net.2$"),
        ("int8", float("inf"), "can be quantized to int8, got inf in"),
    ],
)
def test_weights_that_would_be_lost_are_refused(mode: str, weight: float, message: str) -> None:
    model = wide()
    with torch.no_grad():
        model.transformer_blocks[0].ff.net[2].weight[3, 4] = weight
    with pytest.raises(ConfigError, match=message):
        quantize_model(model, mode)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("mode", MODES)
def test_a_model_in_double_precision_or_with_hooks_is_refused(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"must be in .* to be quantized, got torch.float64"):
        quantize_model(wide(torch.float64), mode)
    model = wide()
    to_q = model.transformer_blocks[0].attn1.to_q
    to_q.forward = to_q.forward
    with pytest.raises(
        ConfigError, match=r"transformer_blocks.0.attn1.to_q is hooked: quantize a model before"
    ):
        quantize_model(model, mode)

"""A fused LoRA is weight x alpha / rank x B A on top of each of its layers, and nothing of it is left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTXPipeline
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from small_transformer import hearing_transformer, inputs, random, small_transformer, sound
from torch import Tensor, nn

from ltx_ray.errors import ModelError
from ltx_ray.models.lora import fuse_lora

TO_Q, FF = "transformer_blocks.0.attn1.to_q", "transformer_blocks.3.ff.net.2"
SIZES = {TO_Q: (32, 32), FF: (32, 128)}  # out, in


def matrices(rank: int = 3) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, B) of two layers."""
    return {
        layer: (random(seed, rank, width), random(seed + 10, height, rank))
        for seed, (layer, (height, width)) in enumerate(SIZES.items())
    }


def written(path: Path, prefix: str = "diffusion_model", **extra: Tensor) -> str:
    state = {
        f"{prefix}.{layer}.lora_{name}.weight": matrix
        for layer, pair in matrices().items()
        for name, matrix in zip("AB", pair, strict=True)
    }
    file = str(path / "lora.safetensors")
    save_file({**state, **extra}, file)
    return file


def changes(transformer: nn.Module) -> dict[str, Tensor]:
    """By how much weights differ from ``small_transformer``'s, where they do."""
    stock = small_transformer().state_dict()
    mine = transformer.state_dict()
    assert mine.keys() == stock.keys(), "nothing of peft is left"
    return {name: mine[name] - stock[name] for name in stock if not torch.equal(mine[name], stock[name])}


@pytest.mark.parametrize("weight", [1.0, 0.5, -2.0])
def test_what_diffusers_saved_is_added_with_its_own_alpha_and_rank(tmp_path: Path, weight: float) -> None:
    trained = small_transformer()
    targets = ["attn1.to_q", "attn2.to_out.0", "ff.net.0.proj"]
    trained.add_adapter(LoraConfig(r=4, lora_alpha=6, target_modules=targets, init_lora_weights=False))
    LTXPipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(trained, adapter_name="default"),
        **_collate_lora_metadata({"transformer": trained}),
    )
    plain = small_transformer()
    fuse_lora(plain, str(tmp_path / "pytorch_lora_weights.safetensors"), weight)
    moved = changes(plain)
    layers = {name: module for name, module in trained.named_modules() if hasattr(module, "lora_A")}
    assert moved.keys() == {f"{name}.weight" for name in layers}
    assert len(layers) == 3 * 4
    for name, layer in layers.items():
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        assert torch.allclose(moved[f"{name}.weight"], weight * 6 / 4 * product, atol=1e-6), name


def test_what_a_transformer_saved_itself_is_added_with_its_own_alpha(tmp_path: Path) -> None:
    """``save_lora_adapter`` names weights without the pipeline's prefix, in its metadata too."""
    trained = small_transformer()
    trained.add_adapter(LoraConfig(r=4, lora_alpha=6, target_modules=["attn1.to_q"], init_lora_weights=False))
    trained.save_lora_adapter(tmp_path, adapter_name="default")
    (file,) = tmp_path.glob("*.safetensors")
    plain = small_transformer()
    fuse_lora(plain, str(file))
    moved = changes(plain)
    layers = {name: module for name, module in trained.named_modules() if hasattr(module, "lora_A")}
    assert moved.keys() == {f"{name}.weight" for name in layers}
    for name, layer in layers.items():
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        assert torch.allclose(moved[f"{name}.weight"], 6 / 4 * product, atol=1e-6), name


@pytest.mark.parametrize("prefix", ["diffusion_model", "transformer"])
@pytest.mark.parametrize("names", [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_files_in_other_namings_are_understood(tmp_path: Path, prefix: str, names: tuple[str, str]) -> None:
    state = {}
    for layer, pair in matrices().items():
        for name, matrix in zip(names, pair, strict=True):
            state[f"{prefix}.{layer}.{name}.weight"] = matrix
    save_file(state, tmp_path / "a.safetensors")
    transformer = small_transformer()
    fuse_lora(transformer, str(tmp_path / "a.safetensors"), 0.25)
    moved = changes(transformer)
    assert moved.keys() == {f"{layer}.weight" for layer in SIZES}
    for layer, (a, b) in matrices().items():
        assert torch.allclose(moved[f"{layer}.weight"], 0.25 * b @ a, atol=1e-6)


def test_an_alpha_beside_the_matrices_counts_for_its_own_layer(tmp_path: Path) -> None:
    transformer = small_transformer()
    fuse_lora(transformer, written(tmp_path, **{f"diffusion_model.{TO_Q}.alpha": torch.tensor(12.0)}))
    moved = changes(transformer)
    for layer, scale in ((TO_Q, 12 / 3), (FF, 1.0)):
        a, b = matrices()[layer]
        assert torch.allclose(moved[f"{layer}.weight"], scale * b @ a, atol=1e-5)


@pytest.mark.parametrize("rounded", [torch.float16, torch.bfloat16])
def test_a_lora_of_few_bits_is_not_rounded_once_more(tmp_path: Path, rounded: torch.dtype) -> None:
    state = {
        f"transformer.{TO_Q}.lora_{n}.weight": m.to(rounded)
        for n, m in zip("AB", matrices()[TO_Q], strict=True)
    }
    save_file(state, tmp_path / "a.safetensors")
    transformer = small_transformer()
    fuse_lora(transformer, str(tmp_path / "a.safetensors"))
    a, b = (matrix.to(rounded).float() for matrix in matrices()[TO_Q])
    assert torch.allclose(changes(transformer)[f"{TO_Q}.weight"], b @ a, atol=1e-5)


def test_loras_add_up_and_one_of_weight_0_does_nothing(tmp_path: Path) -> None:
    path = written(tmp_path)
    twice, once = small_transformer(), small_transformer()
    fuse_lora(twice, path, 0.75)
    fuse_lora(twice, path, 0.25)
    fuse_lora(once, path)
    assert torch.allclose(twice.get_parameter(f"{FF}.weight"), once.get_parameter(f"{FF}.weight"), atol=1e-6)
    nothing = small_transformer()
    fuse_lora(nothing, path, 0.0)
    assert changes(nothing) == {}


def test_a_fused_transformer_is_of_plain_layers_and_can_be_given_ears(tmp_path: Path) -> None:
    path = written(tmp_path)
    fused = small_transformer()
    fuse_lora(fused, path)
    assert {type(fused.get_submodule(layer)) for layer in SIZES} == {nn.Linear}
    # Fused into one that has audio layers already, it is the same.
    adapted = hearing_transformer(opened=False)
    fuse_lora(adapted, path)
    with torch.no_grad():
        wanted = fused(**inputs())[0]
        assert torch.equal(adapted(**inputs(), audio=sound())[0], wanted)
        assert not torch.allclose(wanted, small_transformer()(**inputs())[0], atol=1e-3)


BAD: dict[str, tuple[dict[str, Tensor], str]] = {
    "deeper": (
        {f"diffusion_model.transformer_blocks.9.attn1.to_q.lora_{n}.weight": random(0, 2, 2) for n in "AB"},
        "is of another model: its layer transformer_blocks.9.attn1.to_q .* is not there",
    ),
    "wider": (
        {
            "diffusion_model.transformer_blocks.1.attn1.to_q.lora_A.weight": random(0, 2, 64),
            "diffusion_model.transformer_blocks.1.attn1.to_q.lora_B.weight": random(0, 64, 2),
        },
        r"A \(2, 64\) and B \(64, 2\), but this transformer's is \(32, 32\)",
    ),
    "one half": (
        {"diffusion_model.transformer_blocks.1.attn1.to_q.lora_A.weight": random(0, 2, 32)},
        "must hold A and B of each layer, got one of transformer_blocks.1.attn1.to_q",
    ),
    "DoRA": ({f"diffusion_model.{TO_Q}.dora_scale": random(0, 32)}, f"got diffusion_model.{TO_Q}.dora_scale"),
    "a bias": ({f"diffusion_model.{TO_Q}.diff_b": random(0, 32)}, "and nothing else, got .*diff_b"),
    "a text encoder's": (
        {"text_encoder.layer.lora_A.weight": random(0, 2, 2)},
        "and nothing else, got text_encoder.layer.lora_A.weight",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_would_be_left_out_in_silence_is_refused_before_anything_is_changed(
    tmp_path: Path, kind: str
) -> None:
    extra, words = BAD[kind]
    transformer = small_transformer()
    with pytest.raises(ModelError, match=words):
        fuse_lora(transformer, written(tmp_path, **extra))
    assert changes(transformer) == {}


@pytest.mark.parametrize(
    ("state", "metadata", "words"),
    [
        ({}, None, "must hold weights for LTX's transformer, got none"),
        ({f"{TO_Q}.lora_A.weight": torch.zeros(2, 32)}, None, "must hold A and B of each layer"),
        ({f"unet.{TO_Q}.lora_A.weight": torch.zeros(2, 32)}, None, "save_lora_weights"),
        ({"transformer.proj_in.weight": torch.zeros(2, 2)}, None, "got transformer.proj_in.weight"),
        (None, {"lora_adapter_metadata": "{"}, "does not fit this transformer"),
        (None, {"lora_adapter_metadata": json.dumps({"transformer.swing": 3})}, "does not fit"),
    ],
)
def test_files_that_are_no_loras_are_told(
    tmp_path: Path, state: dict[str, Any] | None, metadata: dict[str, str] | None, words: str
) -> None:
    path = tmp_path / "a.safetensors"
    a, b = matrices()[TO_Q]
    good = {f"transformer.{TO_Q}.lora_A.weight": a, f"transformer.{TO_Q}.lora_B.weight": b}
    save_file(good if state is None else state, path, metadata)
    transformer = small_transformer()
    with pytest.raises(ModelError, match=words):
        fuse_lora(transformer, str(path))
    assert changes(transformer) == {}
    (tmp_path / "b.safetensors").write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"the LoRA .*b\.safetensors"):
        fuse_lora(transformer, str(tmp_path / "b.safetensors"))

"""A transformer with audio layers is diffusers' own wherever there is no sound, and hears where there is."""

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from small_transformer import (
    AUDIO,
    COLUMNS,
    FRAMES,
    ROWS,
    TOKENS,
    hearing_transformer,
    inputs,
    random,
    small_transformer,
    sound,
)
from torch import nn

from ltx_ray.errors import ModelError, UserError
from ltx_ray.models.checkpoint import resolve
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer
from ltx_ray.models.transformers.audio_transformer import AudioLTXVideoTransformer3DModel

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "a batch of two": {"batch": 2},
    "per-token timesteps": {"timestep": random(4, 1, TOKENS, 1).abs() * 300},
    "a mask of more dimensions": {"encoder_attention_mask": torch.zeros(1, 1, 6)},
    "no mask": {"encoder_attention_mask": None},
    "coordinates": {"video_coords": random(5, 1, 3, TOKENS).abs() * 10, "num_frames": None},
    "interpolated times": {"rope_interpolation_scale": (8 / 24, 32.0, 32.0)},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_without_sound_or_with_gates_at_zero_it_is_the_stock_transformer_bit_for_bit(
    case: str, dtype: torch.dtype
) -> None:
    stock = small_transformer().to(dtype)
    adapted = hearing_transformer(opened=False).to(dtype)
    given = inputs(dtype, **CASES[case])
    heard = sound(batch=len(given["hidden_states"]), dtype=dtype)
    with torch.no_grad():
        wanted = stock(**given)[0]
        assert torch.equal(adapted(**given)[0], wanted)
        assert torch.equal(adapted(**given, audio=heard)[0], wanted)
    assert wanted.abs().max() > 0.1


def test_gradients_without_sound_are_the_stock_transformers_bit_for_bit() -> None:
    stock, adapted = small_transformer(), hearing_transformer()
    for model in (stock, adapted):
        model(**inputs())[0].square().sum().backward()
    mine = dict(adapted.named_parameters())
    for name, weight in stock.named_parameters():
        assert torch.equal(weight.grad, mine[name].grad), name
    assert all(weight.grad is None for name, weight in mine.items() if "audio_attn" in name)


def test_open_gates_let_the_sound_in() -> None:
    adapted = hearing_transformer()
    with torch.no_grad():
        silent = adapted(**inputs())[0]
        one, other = (adapted(**inputs(), audio=sound(seed))[0] for seed in (3, 4))
    assert (one - silent).abs().mean() > 0.01
    assert (one - other).abs().mean() > 0.01


def test_the_output_comes_as_the_stock_transformers_does() -> None:
    adapted = hearing_transformer()
    with torch.no_grad():
        wrapped = adapted(**inputs(return_dict=True), audio=sound())
        assert torch.equal(wrapped.sample, adapted(**inputs(), audio=sound())[0])


def test_the_built_in_model_gets_layers_8_to_12_by_default_in_place() -> None:
    transformer = resolve("tiny").load_transformer(torch.bfloat16, "cpu")
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    adapted = add_audio_cross_attention_to_transformer(transformer)
    assert adapted is transformer
    assert list(adapted.audio_blocks()) == [8, 9, 10, 11, 12]
    for block in adapted.audio_blocks().values():
        assert block.audio_latent_dim == 128
        assert block.num_heads == 8
        assert torch.count_nonzero(block.gate) == 0
        assert {weight.dtype for weight in block.parameters()} == {torch.bfloat16}
        assert not block.training
    after = adapted.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items()), "base names stay"
    added = {name.split(".audio_attn.")[0] for name in after.keys() - before.keys()}
    assert added == {f"transformer_blocks.{index}" for index in range(8, 13)}


@pytest.mark.parametrize(("start", "end"), [(6, 16), (0, 0), (17, 17), (0, 17)])
def test_any_layers_that_exist_can_be_named(start: int, end: int) -> None:
    adapted = add_audio_cross_attention_to_transformer(
        small_transformer(num_layers=18), audio_latent_dim=AUDIO, start_layer=start, end_layer=end
    )
    assert list(adapted.audio_blocks()) == list(range(start, end + 1))
    assert (adapted.audio_layers.start_layer, adapted.audio_layers.end_layer) == (start, end)
    with torch.no_grad():
        assert adapted(**inputs(), audio=sound())[0].shape == (1, TOKENS, 8)


def test_new_layers_are_in_training_and_frozen_as_the_transformer_is() -> None:
    trained = add_audio_cross_attention_to_transformer(small_transformer().train(), 12, 1, 2)
    assert all(block.training for block in trained.audio_blocks().values())
    frozen = add_audio_cross_attention_to_transformer(small_transformer().requires_grad_(False), 12, 1, 2)
    assert not any(weight.requires_grad for weight in frozen.parameters())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "layers 0 to 3 of this transformer of 4 layers, in order, got 8 to 12"),
        ({"start_layer": 1, "end_layer": 4}, "got 1 to 4"),
        ({"start_layer": -1, "end_layer": 2}, "got -1 to 2"),
        ({"start_layer": 2, "end_layer": 1}, "in order, got 2 to 1"),
        ({"start_layer": 1, "end_layer": 2, "num_heads": 5}, "cannot be added.*hidden_dim 32, num_heads 5"),
        ({"start_layer": 1, "end_layer": 2, "audio_latent_dim": 0}, "cannot be added.*audio_latent_dim 0"),
        ({"start_layer": 1, "end_layer": 2, "dropout": 2.0}, "cannot be added.*got 2.0"),
    ],
)
def test_what_cannot_be_added_is_told_and_leaves_the_transformer_as_it_was(
    arguments: dict[str, Any], words: str
) -> None:
    transformer = small_transformer()
    config, names = dict(transformer.config), list(transformer.state_dict())
    with pytest.raises(ModelError, match=words):
        add_audio_cross_attention_to_transformer(transformer, **arguments)
    assert type(transformer) is LTXVideoTransformer3DModel
    assert {type(block).__name__ for block in transformer.transformer_blocks} == {"LTXVideoTransformerBlock"}
    assert list(transformer.state_dict()) == names
    assert dict(transformer.config) == config


def test_adding_twice_is_refused_and_changes_nothing() -> None:
    adapted = hearing_transformer()
    names = list(adapted.state_dict())
    with pytest.raises(ModelError, match="has audio layers already, 1 to 2"):
        add_audio_cross_attention_to_transformer(adapted, AUDIO, 0, 3)
    assert list(adapted.state_dict()) == names
    assert list(adapted.audio_blocks()) == [1, 2]


def test_something_else_than_an_ltx_transformer_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"expected an LTXVideoTransformer3DModel of diffusers, got .*Linear"
    ):
        add_audio_cross_attention_to_transformer(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_audio_of_another_width_or_of_other_frames_is_told() -> None:
    adapted = hearing_transformer(audio_latent_dim=5)
    with pytest.raises(UserError, match=r"made for audio latents \[B, L, 5\], got"):
        adapted(**inputs(), audio=sound())
    context = sound()
    short = context._replace(windows=context.windows[:-1].repeat(2, 1), offsets=context.offsets.repeat(2, 1))
    with pytest.raises(UserError, match=f"{TOKENS} video tokens cannot be those of {2 * FRAMES - 2}"):
        hearing_transformer()(**inputs(), audio=short)
    assert TOKENS == FRAMES * ROWS * COLUMNS


def test_a_part_of_the_tokens_is_refused_where_there_is_sound() -> None:
    """Half of them would be divided among all latent frames, and hear wrong times."""
    adapted = hearing_transformer()
    for case in ("plain", "coordinates"):
        given = inputs(**CASES[case])
        part = {**given, "hidden_states": given["hidden_states"][:, : TOKENS // 2]}
        with pytest.raises(ModelError, match=f"all {TOKENS} video tokens of a window, got {TOKENS // 2}"):
            adapted(**part, audio=sound())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_hears_with_its_own_weights(copied: Any) -> None:
    adapted = hearing_transformer()
    again = copied(adapted)
    with torch.no_grad():
        wanted = adapted(**inputs(), audio=sound())[0]
        assert torch.equal(again(**inputs(), audio=sound())[0], wanted)
        for block in adapted.audio_blocks().values():
            block.gate.zero_()
        assert torch.equal(again(**inputs(), audio=sound())[0], wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_save_pretrained_writes_from_pretrained_reads(tmp_path: Any, dtype: torch.dtype) -> None:
    adapted = hearing_transformer(num_heads=4, dropout=0.3).to(dtype)
    adapted.save_pretrained(tmp_path)
    again = AudioLTXVideoTransformer3DModel.from_pretrained(tmp_path, dtype=dtype)
    assert again.audio_layers == adapted.audio_layers
    assert again.audio_layers.num_heads == 4
    with torch.no_grad():
        theirs = adapted(**inputs(dtype), audio=sound(dtype=dtype))[0]
        ours = again(**inputs(dtype), audio=sound(dtype=dtype))[0]
    assert torch.allclose(ours, theirs, atol=1e-6 if dtype is torch.float32 else 1e-2)


def test_an_update_of_diffusers_that_adds_an_argument_is_noticed() -> None:
    def parameters(function: Any) -> dict[str, Any]:
        return {p.name: p.default for p in inspect.signature(function).parameters.values()}

    base, ours = LTXVideoTransformer3DModel, AudioLTXVideoTransformer3DModel
    assert parameters(ours.__init__) == parameters(base.__init__) | {"audio_layers": None}
    assert parameters(ours.forward) == parameters(base.forward) | {"audio": None}

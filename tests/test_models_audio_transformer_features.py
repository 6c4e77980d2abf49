"""Audio layers go along with what users do to transformers: checkpointing, compiling, fp8, LoRA, caching."""

from typing import Any

import pytest
import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from diffusers import FirstBlockCacheConfig, LTXVideoTransformer3DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from small_transformer import (
    AUDIO,
    hearing_transformer,
    inputs,
    open_gates,
    random,
    small_transformer,
    sound,
)
from torch import Tensor

from ltx_ray.errors import ModelError
from ltx_ray.models.transformers.audio_cross_attention import add_audio_cross_attention_to_transformer


def gradients(model: Any, *losses: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    sum(losses).backward()  # type: ignore[union-attr]
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {name: grad.clone() for name, grad in found.items()}


def loss(model: Any, seed: int) -> Tensor:
    made: Tensor = model(**inputs(), audio=sound(seed))[0]
    return (made * random(seed, *made.shape)).sum()


def test_checkpointing_recomputes_each_pass_with_its_own_sound() -> None:
    model = hearing_transformer(dropout=0.0).train()
    plain = gradients(model, loss(model, 1), loss(model, 2))
    model.enable_gradient_checkpointing()
    # Both passes are done before either is gone back through: a sound kept as state would be the second's.
    again = gradients(model, loss(model, 1), loss(model, 2))
    assert any("audio_attn.to_k" in name for name in plain)
    assert again.keys() == plain.keys()
    for name, grad in plain.items():
        assert torch.allclose(again[name], grad, rtol=1e-4, atol=1e-5), name
    same = gradients(model, loss(model, 2), loss(model, 2))
    assert not torch.allclose(same["proj_in.weight"], plain["proj_in.weight"], rtol=1e-2)


def test_checkpointing_without_sound_is_the_stock_transformers() -> None:
    stock, adapted = small_transformer().train(), hearing_transformer().train()
    for model in (stock, adapted):
        model.enable_gradient_checkpointing()
    theirs = gradients(stock, stock(**inputs())[0].square().sum())
    ours = gradients(adapted, adapted(**inputs())[0].square().sum())
    assert all(torch.equal(ours[name], grad) for name, grad in theirs.items())


def test_compiled_blocks_hear_the_same_without_a_break_in_the_graph() -> None:
    torch._dynamo.reset()
    model, counter = hearing_transformer(), _Counter()
    with torch.no_grad():
        wanted = [model(**inputs(), audio=audio)[0] for audio in (sound(3), None, sound(4))]
        model.compile_repeated_blocks(backend=counter, fullgraph=True)
        made = [model(**inputs(), audio=audio)[0] for audio in (sound(3), None, sound(4))]
    for ours, theirs in zip(made, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    # Stock blocks, blocks with sound, and the same without: each once, not once for each layer.
    assert counter.graphs == 3
    torch._dynamo.reset()


class _Counter:
    """The backend ``aot_eager``, counting."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, given: Any) -> Any:
        self.graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_stored_in_fp8_it_hears_nearly_the_same_and_gates_stay_exact(dtype: torch.dtype) -> None:
    model = hearing_transformer().to(dtype)
    gates = [block.gate.clone() for block in model.audio_blocks().values()]
    with torch.no_grad():
        wanted = model(**inputs(dtype), audio=sound(dtype=dtype))[0].float()
        silent = model(**inputs(dtype))[0].float()
        model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
        made = model(**inputs(dtype), audio=sound(dtype=dtype))[0].float()
    # fp8 has three bits of mantissa: some percent, less than what the sound does.
    assert 0 < (made - wanted).abs().mean() < 0.3 * (wanted - silent).abs().mean()
    for block, gate in zip(model.audio_blocks().values(), gates, strict=True):
        assert torch.equal(block.gate, gate)
        assert block.gate.dtype == block.norm_k.weight.dtype == dtype
        assert block.to_k.weight.dtype == block.audio_proj.weight.dtype == torch.float8_e4m3fn


def test_layers_added_to_a_transformer_in_fp8_work_in_its_own_precision() -> None:
    model = small_transformer().to(torch.bfloat16)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    given = inputs(torch.bfloat16)
    with torch.no_grad():
        before = model(**given)[0]
        add_audio_cross_attention_to_transformer(model, AUDIO, 1, 2)
        assert torch.equal(model(**given, audio=sound(dtype=torch.bfloat16))[0], before)
        open_gates(model)
        heard = model(**given, audio=sound(dtype=torch.bfloat16))[0]
    assert not torch.equal(heard, before)
    assert {w.dtype for b in model.audio_blocks().values() for w in b.parameters()} == {torch.bfloat16}


HOOKED: dict[str, Any] = {
    "model offload": lambda model: cpu_offload_with_hook(model, torch.device("cpu")),
    "sequential offload": lambda model: cpu_offload(model, torch.device("cpu")),
    "group offload of blocks": lambda model: model.enable_group_offload(
        torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    ),
    "group offload of leaves": lambda model: model.enable_group_offload(
        torch.device("cpu"), offload_type="leaf_level"
    ),
    "feature cache": lambda model: model.enable_cache(FirstBlockCacheConfig(threshold=0.5)),
    "no weights": lambda model: model.to("meta"),
}


@pytest.mark.parametrize("kind", HOOKED)
def test_layers_cannot_be_added_after_hooks_or_without_weights(kind: str) -> None:
    model = small_transformer()
    HOOKED[kind](model)
    config, names = dict(model.config), list(model.state_dict())
    with pytest.raises(ModelError, match=r"add the audio layers (before enable_model_cpu_offload|after the)"):
        add_audio_cross_attention_to_transformer(model, AUDIO, 1, 2)
    assert type(model) is LTXVideoTransformer3DModel
    assert (dict(model.config), list(model.state_dict())) == (config, names)


def test_a_lora_of_the_base_model_goes_on_top_of_audio_layers() -> None:
    trained = small_transformer()
    trained.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["attn1.to_q"]), adapter_name="style")
    state = get_peft_model_state_dict(trained, adapter_name="style")
    state = {f"transformer.{name}": random(7, *value.shape) for name, value in state.items()}
    stock, adapted = small_transformer(), hearing_transformer(opened=False)
    for model in (stock, adapted):
        model.load_lora_adapter(state, prefix="transformer", adapter_name="style")
    with torch.no_grad():
        styled = stock(**inputs())[0]
        assert torch.equal(adapted(**inputs(), audio=sound())[0], styled)
        assert not torch.allclose(styled, small_transformer()(**inputs())[0], atol=1e-3)
        open_gates(adapted)
        assert not torch.allclose(adapted(**inputs(), audio=sound())[0], styled, atol=1e-3)


def test_the_scale_of_a_lora_is_taken_from_attention_kwargs_as_in_the_stock_transformer() -> None:
    stock, adapted = small_transformer(), hearing_transformer(opened=False)
    for model in (stock, adapted):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            config = LoraConfig(r=2, target_modules=["attn1.to_q"], init_lora_weights=False)
            model.add_adapter(config, adapter_name="style")
    with torch.no_grad():
        half = {"attention_kwargs": {"scale": 0.5}}
        wanted = stock(**inputs(), **half)[0]
        assert torch.equal(adapted(**inputs(), **half, audio=sound())[0], wanted)
        assert not torch.equal(stock(**inputs())[0], wanted)


def test_a_first_block_cache_skips_blocks_with_sound_as_without() -> None:
    model = hearing_transformer()
    with torch.no_grad():
        first = model(**inputs(), audio=sound())[0]
        model.enable_cache(FirstBlockCacheConfig(threshold=0.5))
        with model.cache_context("cond"):
            assert torch.allclose(model(**inputs(), audio=sound())[0], first, atol=1e-6)
            # The first block sees the same, so the rest is not run: another sound cannot be heard.
            assert torch.allclose(model(**inputs(), audio=sound(4))[0], first, atol=1e-5)
        with model.cache_context("cond_silent"):
            silent = model(**inputs())[0]
        assert not torch.allclose(silent, first, atol=1e-3), "each pass has a state of its own"
        model._reset_stateful_cache()
        with model.cache_context("cond"):
            assert not torch.allclose(model(**inputs(), audio=sound(4))[0], first, atol=1e-3)
        model.disable_cache()
        assert torch.equal(model(**inputs(), audio=sound())[0], first)

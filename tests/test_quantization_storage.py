"""Quantized models are smaller by what is reported, and what must stay exact keeps every bit."""

import copy

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from quantizable import MODES, Listening, error, forward, pipeline, transformer
from torch import nn
from transformers import T5Config, T5EncoderModel

from ltx_ray.quantization import quantize_model


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 0.35), (torch.bfloat16, 0.6)])
def test_the_report_counts_the_bytes_that_are_there(mode: str, dtype: torch.dtype, share: float) -> None:
    model = transformer(dtype)

    def num_bytes() -> int:
        return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))

    before = num_bytes()
    report = quantize_model(model, mode)
    (part,) = report.parts
    assert (report.bytes_before, report.bytes_after) == (part.bytes_before, part.bytes_after)
    assert (before, num_bytes()) == (report.bytes_before, report.bytes_after)
    assert report.bytes_after < share * report.bytes_before
    # Ten linear layers in each of 13 blocks: two attentions of four, two of the feed-forward.
    assert part.layers == 130
    forward(model)
    assert num_bytes() == report.bytes_after, "what was brought back for a forward is put away"
    assert str(report).startswith(f"LTXVideoTransformer3DModel: 130 layers in {mode}, ")


@pytest.mark.parametrize("mode", MODES)
def test_what_ltx_is_sensitive_to_keeps_every_bit(mode: str) -> None:
    model = transformer()
    for block in model.transformer_blocks[3:5]:
        block.audio_attn = Listening(160)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    quantize_model(model, mode)
    after = dict(model.named_parameters())
    changed = {name for name in before if not torch.equal(after[name].float(), before[name])}
    for kept in ("norm", "time_embed", "proj_in", "proj_out", "caption", "table", "gate"):
        assert not [name for name in changed if kept in name], kept
        assert [name for name in before if kept in name], f"the transformer has such a thing: {kept}"
    assert {"transformer_blocks.3.audio_attn.to_q.weight", "transformer_blocks.0.ff.net.2.weight"} <= changed
    layers = {name.rpartition(".")[0] for name in changed}
    assert len(layers) == 132


@pytest.mark.parametrize("mode", MODES)
def test_layers_held_in_float32_in_a_narrower_model_stay_so(mode: str) -> None:
    """As transformers does with wo where T5 is loaded in float16."""
    torch.manual_seed(0)
    config = T5Config(vocab_size=64, d_model=64, d_kv=16, d_ff=128, num_heads=4, num_layers=1)
    model = T5EncoderModel(config).eval().to(torch.bfloat16)
    dense = model.encoder.block[0].layer[1].DenseReluDense
    dense.wo.float()
    quantize_model(model, mode)
    assert dense.wo.weight.dtype == torch.float32
    assert dense.wi.weight.dtype in (torch.float8_e4m3fn, torch.int8)
    with torch.no_grad():
        assert torch.isfinite(model(torch.arange(8)[None])[0]).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_pipeline_has_its_transformer_and_text_encoder_quantized_and_not_its_vae(mode: str) -> None:
    made_by = pipeline()
    vae = {name: parameter.clone() for name, parameter in made_by.vae.named_parameters()}
    report = quantize_model(made_by, mode=mode)
    assert [part.name for part in report.parts] == ["transformer", "text_encoder"]
    assert all(part.bytes_after < part.bytes_before for part in report.parts)
    for name, parameter in made_by.vae.named_parameters():
        assert torch.equal(parameter, vae[name]), name
    made_by.set_progress_bar_config(disable=True)
    frames = made_by(
        "a boat", width=64, height=64, num_frames=9, num_inference_steps=2, output_type="pt"
    ).frames
    assert torch.isfinite(frames).all()


def test_none_changes_nothing_and_says_what_there_is() -> None:
    model = transformer()
    exact = forward(model)
    report = quantize_model(model, "none")
    assert report.bytes_before == report.bytes_after > 14_000_000
    assert torch.equal(forward(model), exact)


def test_the_error_of_int8_is_at_most_half_a_step() -> None:
    layer = nn.Sequential(nn.Linear(33, 7))
    with torch.no_grad():
        layer[0].weight[2] = 0
        layer[0].weight[3] *= 1e4
    before = layer[0].weight.detach().clone()
    quantize_model(layer, "int8")
    step = before.abs().amax(dim=1, keepdim=True) / 127
    assert ((layer[0].weight * layer[0].scale - before).abs() <= 0.5001 * step).all()
    assert isinstance(layer[0], nn.Linear)
    assert layer[0].weight.dtype == torch.int8


def test_an_int8_model_can_be_copied_cast_and_loaded() -> None:
    model = transformer()
    quantize_model(model, "int8")
    made = forward(model)
    assert torch.equal(forward(copy.deepcopy(model)), made)
    other = transformer()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    # Weights of zero, but for their state the same model.
    quantize_model(other, "int8")
    other.load_state_dict(model.state_dict())
    assert torch.equal(forward(other), made)
    assert error(forward(model.to(torch.bfloat16)), made) < 0.03


@pytest.mark.parametrize("mode", MODES)
def test_the_2b_and_13b_transformers_become_half_of_bfloat16(mode: str) -> None:
    wider = {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48}
    for config, gigabytes in (({}, 1.97), (wider, 13.2)):
        with torch.device("meta"):
            model = LTXVideoTransformer3DModel(**config).to(torch.bfloat16)
        report = quantize_model(model, mode)
        assert report.bytes_after / 1e9 == pytest.approx(gigabytes, rel=0.01)
        assert 0.5 < report.bytes_after / report.bytes_before < 0.52

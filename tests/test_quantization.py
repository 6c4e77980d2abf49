"""Quantized models are smaller, make nearly the same, and are used as before; what must stay exact stays."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXPipeline, LTXVideoTransformer3DModel
from test_sampling_chunk import RATIOS, SCHEDULER, SETTINGS, chunks_of, conditioning, random
from torch import nn
from transformers import T5Config, T5EncoderModel

from ltx_ray.errors import ConfigError, UserError
from ltx_ray.models.checkpoint import resolve
from ltx_ray.quantization import QuantizationReport, _check_float8, quantize_model
from ltx_ray.sampling.chunk import denoise_chunk

MODES = ("fp8", "int8")
# Largest relative error of a forward of the built-in transformer; measured 0.037 and 0.009 in float32, 0.039
# and 0.016 in bfloat16, whose own rounding costs 0.011.
LIMIT = {"fp8": 0.06, "int8": 0.025}


class Listening(nn.Module):
    """What an audio adapter adds to a block: linear layers, a norm and a bare gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width)
        self.gate = nn.Parameter(torch.full((width,), 0.123))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.gate * self.to_q(self.norm(hidden))


def transformer(dtype: torch.dtype = torch.float32) -> LTXVideoTransformer3DModel:
    return resolve("tiny").load_transformer(dtype, "cpu")


def wide(dtype: torch.dtype = torch.float32, layers: int = 1) -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    model = LTXVideoTransformer3DModel(
        num_attention_heads=8,
        attention_head_dim=64,
        cross_attention_dim=512,
        caption_channels=64,
        num_layers=layers,
    )
    return model.eval().to(dtype)


@torch.inference_mode()
def forward(model: LTXVideoTransformer3DModel) -> torch.Tensor:
    made: torch.Tensor = model(
        hidden_states=random(1, 1, 24, model.config.in_channels).to(model.dtype),
        encoder_hidden_states=random(2, 1, 8, model.config.caption_channels).to(model.dtype),
        timestep=torch.tensor([500.0]),
        encoder_attention_mask=torch.ones(1, 8, dtype=torch.bool),
        num_frames=2,
        height=3,
        width=4,
        return_dict=False,
    )[0]
    return made


def error(made: torch.Tensor, exact: torch.Tensor) -> float:
    return ((made.float() - exact.float()).norm() / exact.float().norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [transformer, wide])
def test_a_quantized_transformer_makes_nearly_the_same(mode: str, dtype: torch.dtype, make: Any) -> None:
    model = make(dtype)
    exact = forward(model)
    quantize_model(model, mode)
    made = forward(model)
    assert model.dtype == made.dtype == dtype
    assert 0 < error(made, exact) < LIMIT[mode]
    assert torch.equal(forward(model), made), "a forward leaves the weights as they were"


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
def test_layers_that_were_added_to_the_blocks_work_on(mode: str) -> None:
    block = Listening(160)
    hidden = random(0, 1, 5, 160)
    exact = block(hidden)
    quantize_model(block, mode)
    assert 0 < error(block(hidden) - hidden, exact - hidden) < 0.05


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sampler_works_unchanged(mode: str, dtype: torch.dtype) -> None:
    model = transformer(dtype)
    channels, width = model.config.in_channels, model.config.caption_channels
    shot = replace(
        conditioning(),
        prompt_embeds=random(1, 2, 8, width),
        negative_embeds=random(2, 1, 8, width),
    )
    settings = replace(SETTINGS, guidance_scale=3.0)
    first, second, *_ = chunks_of(9, 41, 16)

    def render() -> torch.Tensor:
        before = denoise_chunk(model, SCHEDULER, shot, first, None, settings)
        after = denoise_chunk(model, SCHEDULER, shot, second, before, settings)
        return torch.cat([before.final, after.final], dim=2)

    exact = render()
    quantize_model(model, mode)
    made = render()
    assert exact.shape[1] == channels
    assert RATIOS == settings.ratios
    assert torch.isfinite(made).all()
    assert 0 < error(made, exact) < 4 * LIMIT[mode]
    assert torch.equal(render(), made)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_text_encoder_is_quantized_inside_and_out(mode: str, feed_forward: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=64,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_heads=4,
        num_layers=2,
        feed_forward_proj=feed_forward,
    )
    model = T5EncoderModel(config).eval().to(dtype)
    ids = torch.arange(16)[None]
    with torch.no_grad():
        exact = model(ids)[0]
        report = quantize_model(model, mode)
        made = model(ids)[0]
    # T5 casts activations to the dtype of a weight that it looks at: were that fp8, it could not compute.
    assert 0 < error(made, exact) < {"fp8": 0.08, "int8": 0.03}[mode]
    assert made.dtype == model.dtype == dtype
    assert report.parts[0].layers == 2 * (7 if feed_forward == "gated-gelu" else 6)
    names = {parameter.dtype for name, parameter in model.named_parameters() if name.endswith("wo.weight")}
    assert names == {{"fp8": torch.float8_e4m3fn, "int8": torch.int8}[mode]}
    assert model.shared.weight.dtype == dtype


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
def test_a_vae_can_be_quantized_by_itself(mode: str) -> None:
    torch.manual_seed(0)
    widths = (16, 32, 32, 32)
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=widths,
        decoder_block_out_channels=widths,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
    ).eval()
    latents = random(0, 1, 8, 2, 2, 2)
    ends = [layer.conv.weight.clone() for layer in (vae.encoder.conv_in, vae.decoder.conv_out)]
    with torch.no_grad():
        exact = vae.decode(latents, return_dict=False)[0]
        report = quantize_model(vae, mode)
        made = vae.decode(latents, return_dict=False)[0]
    assert 0 < error(made, exact) < {"fp8": 0.3, "int8": 0.05}[mode]
    assert report.bytes_after < 0.4 * report.bytes_before
    for layer, before in zip((vae.encoder.conv_in, vae.decoder.conv_out), ends, strict=True):
        assert torch.equal(layer.conv.weight, before)


def pipeline() -> LTXPipeline:
    checkpoint = resolve("tiny")
    tokenizer, text_encoder = checkpoint.load_text_encoder(torch.float32, "cpu")
    return LTXPipeline.from_pretrained(
        checkpoint.path, transformer=transformer(), text_encoder=text_encoder, tokenizer=tokenizer
    )


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
    assert report.bytes_before == report.bytes_after > 20_000_000
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
def test_a_lora_is_fused_and_then_quantized_with_the_rest(mode: str) -> None:
    model = transformer()
    base = forward(model)
    name = "transformer_blocks.{}.attn1.to_q.lora_{}.weight"
    state = {
        name.format(i, side): 0.2 * random(i, *shape)
        for i in range(13)
        for side, shape in (("A", (4, 160)), ("B", (160, 4)))
    }
    model.load_lora_adapter(state, prefix=None)
    exact = forward(model)
    model.fuse_lora()
    model.unload_lora()
    report = quantize_model(model, mode)
    assert report.parts[0].layers == 130
    assert error(forward(model), exact) < 2 * LIMIT[mode] < error(base, exact)


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


@pytest.mark.parametrize("mode", MODES)
def test_the_2b_and_13b_transformers_become_half_of_bfloat16(mode: str) -> None:
    wider = {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48}
    for config, gigabytes in (({}, 1.97), (wider, 13.2)):
        with torch.device("meta"):
            model = LTXVideoTransformer3DModel(**config).to(torch.bfloat16)
        report = quantize_model(model, mode)
        assert report.bytes_after / 1e9 == pytest.approx(gigabytes, rel=0.01)
        assert 0.5 < report.bytes_after / report.bytes_before < 0.52


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_layers_of_the_2b_transformer_are_quantized_and_run(mode: str) -> None:
    torch.manual_seed(0)
    model = LTXVideoTransformer3DModel(num_layers=2).eval().to(torch.bfloat16)
    exact = forward(model)
    report: QuantizationReport = quantize_model(model, mode)
    assert report.bytes_before == pytest.approx(354.7e6, rel=0.001)
    assert report.bytes_after == pytest.approx(220.5e6, rel=0.001)
    made = forward(model)
    assert made.dtype == torch.bfloat16
    assert 0 < error(made, exact) < LIMIT[mode]

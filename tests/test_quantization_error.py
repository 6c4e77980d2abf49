"""Quantized models make nearly the same as before, and are used as before."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from quantizable import LIMIT, MODES, Listening, error, forward, transformer, wide
from test_sampling_chunk import RATIOS, SCHEDULER, SETTINGS, chunks_of, conditioning, random
from transformers import T5Config, T5EncoderModel

from ltx_ray.quantization import QuantizationReport, quantize_model
from ltx_ray.sampling.chunk import denoise_chunk


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


@pytest.mark.parametrize("mode", MODES)
def test_a_lora_is_fused_and_then_quantized_with_the_rest(mode: str) -> None:
    model = transformer()
    base = forward(model)
    name = "transformer_blocks.{}.attn1.to_q.lora_{}.weight"
    state = {
        name.format(i, side): 0.4 * random(i, *shape)
        for i in range(13)
        for side, shape in (("A", (4, 128)), ("B", (128, 4)))
    }
    model.load_lora_adapter(state, prefix=None)
    exact = forward(model)
    model.fuse_lora()
    model.unload_lora()
    report = quantize_model(model, mode)
    assert report.parts[0].layers == 130
    assert error(forward(model), exact) < 2 * LIMIT[mode] < error(base, exact)


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

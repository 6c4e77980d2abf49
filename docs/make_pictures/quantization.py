"""Draw docs/images/quantization.png: bytes of the published sizes, and errors measured on random weights.

python docs/make_pictures/quantization.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from ltx_ray.models.checkpoint import resolve
from ltx_ray.quantization import quantize_model

TARGET = Path(__file__).resolve().parents[1] / "images" / "quantization.png"
WIDE_13B = {"attention_head_dim": 128, "cross_attention_dim": 4096, "num_layers": 48}
T5_XXL = {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
T5_SMALLER = {"d_model": 1024, "d_ff": 2560, "num_layers": 4, "num_heads": 16, "vocab_size": 512}
INK, COLOURS = (40, 40, 40), {"bf16": (150, 150, 150), "fp8": (32, 96, 176), "int8": (224, 122, 28)}
WIDTH, LABEL, BAR, GROUP = 940, 250, 16, 62

# (name, {series: value})
Bars = list[tuple[str, dict[str, float]]]


def t5(sizes: dict[str, int]) -> T5EncoderModel:
    return T5EncoderModel(T5Config(feed_forward_proj="gated-gelu", d_kv=64, **sizes)).eval()


def sizes() -> Bars:
    """GB, of models without memory: shapes only."""
    models: list[tuple[str, Callable[[], Any]]] = [
        ("transformer 2B", LTXVideoTransformer3DModel),
        ("transformer 13B", lambda: LTXVideoTransformer3DModel(**WIDE_13B)),
        ("text encoder T5-XXL", lambda: t5({**T5_XXL, "vocab_size": 32128})),
    ]
    bars = []
    for name, make in models:
        values = {}
        for mode in ("fp8", "int8"):
            with torch.device("meta"):
                model = make().to(torch.bfloat16)
            report = quantize_model(model, mode)
            values |= {"bf16": report.bytes_before / 1e9, mode: report.bytes_after / 1e9}
        bars.append((name, values))
    return bars


def predict(model: LTXVideoTransformer3DModel) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    tokens, text = (
        torch.randn(1, count, width, generator=draw).to(model.dtype)
        for count, width in ((96, model.config.in_channels), (16, model.config.caption_channels))
    )
    shape = {"num_frames": 4, "height": 4, "width": 6, "return_dict": False}
    mask = torch.ones(1, 16)
    out: Tensor = model(tokens, text, torch.tensor([500.0]), mask, **shape)[0]
    return out


def encode(model: T5EncoderModel) -> Tensor:
    out: Tensor = model(torch.arange(64)[None])[0]
    return out


def decode(model: AutoencoderKLLTXVideo) -> Tensor:
    latents = torch.randn(
        1, model.config.latent_channels, 3, 4, 4, generator=torch.Generator().manual_seed(0)
    )
    out: Tensor = model.decode(latents.to(model.dtype), return_dict=False)[0]
    return out


def errors() -> Bars:
    """Relative errors of a forward in per cent, against float32."""
    tiny = resolve("tiny")
    cpu, exact = "cpu", torch.float32
    models: list[tuple[str, Callable[[], Any], Callable[[Any], Tensor]]] = [
        ("transformer tiny, 13 layers", lambda: tiny.load_transformer(exact, cpu), predict),
        ("transformer 2B, 2 layers", lambda: LTXVideoTransformer3DModel(num_layers=2).eval(), predict),
        ("T5 tiny", lambda: tiny.load_text_encoder(exact, cpu)[1], encode),
        ("T5 1024 wide, 4 layers", lambda: t5(T5_SMALLER), encode),
        ("VAE tiny (left as it is)", lambda: tiny.load_vae(exact, cpu), decode),
    ]
    bars = []
    for name, make, run in models:
        values = {}
        for series in COLOURS:
            torch.manual_seed(0)
            model = make()
            with torch.inference_mode():
                reference = run(model)
                if series == "bf16":
                    made = run(model.to(torch.bfloat16)).float()
                else:
                    quantize_model(model, series)
                    made = run(model)
            values[series] = 100 * ((made - reference).norm() / reference.norm()).item()
        bars.append((name, values))
    return bars


def chart(draw: ImageDraw.ImageDraw, top: int, title: str, unit: str, bars: Bars) -> int:
    font, small = ImageFont.load_default(size=14), ImageFont.load_default(size=12)
    draw.text((12, top), title, INK, font)
    top += 32
    most = max(value for _, values in bars for value in values.values())
    for name, values in bars:
        draw.text((12, top + GROUP // 2 - 18), name, INK, font)
        for line, series in enumerate(COLOURS):
            if series in values:
                y = top + line * (BAR + 2)
                end = LABEL + max(2, round(values[series] / most * (WIDTH - LABEL - 130)))
                draw.rectangle((LABEL, y, end, y + BAR - 1), fill=COLOURS[series])
                draw.text((end + 6, y), f"{series} {values[series]:.2f} {unit}", INK, small)
        top += GROUP
    return top + 14


def main() -> None:
    both = sizes(), errors()
    image = Image.new("RGB", (WIDTH, 110 + GROUP * sum(len(bars) for bars in both)), "white")
    draw = ImageDraw.Draw(image)
    top = chart(draw, 12, "Weights held in memory", "GB", both[0])
    chart(draw, top, "Relative error of one forward against float32, untrained weights", "%", both[1])
    TARGET.parent.mkdir(exist_ok=True)
    image.quantize(32).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()

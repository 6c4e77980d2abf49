"""Models to quantize, how they are run, and how far they may be off, for the tests."""

import torch
from diffusers import LTXPipeline, LTXVideoTransformer3DModel
from test_sampling_chunk import random
from torch import nn

from ltx_ray.models.checkpoint import resolve

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


def pipeline() -> LTXPipeline:
    checkpoint = resolve("tiny")
    tokenizer, text_encoder = checkpoint.load_text_encoder(torch.float32, "cpu")
    return LTXPipeline.from_pretrained(
        checkpoint.path, transformer=transformer(), text_encoder=text_encoder, tokenizer=tokenizer
    )


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

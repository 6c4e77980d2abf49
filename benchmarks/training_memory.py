"""What training an audio adapter for the real 2B model needs in memory, counted.

    python benchmarks/training_memory.py [--batch 1 2 4] [--frames 121] [--json]

The 2B transformer in bfloat16, frozen, with an adapter in the layers 8 to 12, runs a training step on
torch's meta device, which computes nothing: every tensor has its true size, and what is alive is counted.
Attention is counted as flash attention, which keeps its inputs, its output and a number for each row. Beside
it stand, worked out, the adapter's float32 weights, gradients, optimizer states and moving average. The VAE
and the text encoder are not there: clips and prompts are encoded before (docs/training.md).
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

# The counting of allocations stands beside the tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from allocations import Allocations

from ltx_ray.models.audio.alignment import AudioTrack, audio_context, latent_span, window_size
from ltx_ray.models.audio.audio_encoder import AudioEncoder
from ltx_ray.models.transformers.audio_adapter import AudioAdapter
from ltx_ray.models.transformers.audio_transformer import AudioLTXVideoTransformer3DModel
from ltx_ray.planning.geometry import Ratios, latents_of

GIB = 2**30
FPS = 24.0
SIZES = {"512x768": (16, 24), "704x1216": (22, 38)}  # rows and columns of cells
# Bytes of a trained value in float32: itself, its gradient, a momentum, a moving average (AdamW's second
# moment is there for a few vectors only), and bfloat16's copy for the autocast.
TRAINED_BYTES = 4 + 4 + 4 + 4 + 2


@dataclass(frozen=True, slots=True)
class Row:
    """One step; GiB."""

    size: str
    frames: int
    batch: int
    checkpointing: bool
    base: float  # the frozen transformer
    adapter: float  # all that is kept for the weights that are trained
    activations: float  # peak of the step beyond them
    total: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--frames", type=int, default=121)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    asked = parser.parse_args()
    rows = [
        measured(size, asked.frames, batch, checkpointing)
        for size in SIZES
        for batch in asked.batch
        for checkpointing in (False, True)
    ]
    if asked.json:
        sys.stdout.write(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    else:
        sys.stdout.write(_table(rows))


def measured(size: str, frames: int, batch: int, checkpointing: bool) -> Row:
    """A forward and a backward of the adapter of a frozen 2B transformer."""
    with torch.device("meta"):
        adapted: Any = AudioLTXVideoTransformer3DModel(audio_layers={"dropout": 0.0})
    adapted.to(torch.bfloat16).requires_grad_(False)
    if checkpointing:
        adapted.enable_gradient_checkpointing()
    adapter = AudioAdapter.of(adapted, AudioEncoder())
    blocks = sum(weight.numel() for weight in adapter.blocks.parameters())
    base = sum(weight.nbytes for weight in adapted.parameters()) - 2 * blocks
    trained = TRAINED_BYTES * sum(weight.numel() for weight in adapter.parameters())
    adapter.blocks.requires_grad_(True)
    rows, columns = SIZES[size]
    latents, ratios = latents_of(frames, Ratios()), Ratios()
    given = _given(batch, latents, rows, columns)
    track = AudioTrack(tokens=torch.zeros(batch, 200, 128))
    spans = [latent_span(latent, FPS, ratios) for latent in range(latents)]
    audio = audio_context(track, spans, window_size(FPS, ratios, track.tokens_per_second)).to(
        "meta", torch.bfloat16
    )
    with patch.object(nn.functional, "scaled_dot_product_attention", flash), Allocations() as allocations:
        adapted(**given, audio=audio, return_dict=False)[0].float().square().mean().backward()
    # What was there before the step is counted as soon as the step uses it.
    held = base + 4 * blocks  # with the blocks and their gradients in bfloat16
    activations = max(allocations.peak - held, 0)
    parts = [value / GIB for value in (base, trained, activations)]
    return Row(size, frames, batch, checkpointing, *parts, sum(parts))


def _given(batch: int, latents: int, rows: int, columns: int) -> dict[str, Any]:
    tokens = latents * rows * columns
    half = {"device": "meta", "dtype": torch.bfloat16}
    return {
        "hidden_states": torch.zeros(batch, tokens, 128, **half),
        "encoder_hidden_states": torch.zeros(batch, 128, 4096, **half),
        "timestep": torch.zeros(batch, tokens, 1, device="meta"),
        "encoder_attention_mask": torch.ones(batch, 128, device="meta"),
        "video_coords": torch.zeros(batch, 3, tokens, device="meta"),
    }


class _Flash(torch.autograd.Function):
    """Keeps what flash attention keeps; computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        rows = torch.empty(query.shape[:-1], device=query.device, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, rows)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def flash(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    made: Tensor = _Flash.apply(query, key, value)  # type: ignore[no-untyped-call]
    return made


def _table(rows: list[Row]) -> str:
    lines = ["size       frames  batch  checkpointing   base  adapter  activations   total"]
    lines += [
        f"{row.size:10} {row.frames:6} {row.batch:6}  {'yes' if row.checkpointing else 'no':13} "
        f"{row.base:6.2f} {row.adapter:8.2f} {row.activations:12.2f} {row.total:7.2f}"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

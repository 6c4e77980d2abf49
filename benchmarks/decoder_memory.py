"""What a decode needs in memory, whole and by the adaptive decoder, and what its tiles do to the pixels.

    python benchmarks/decoder_memory.py [memory|error|all] [--frames 9 121 257] [--device cuda] [--json]

``memory``: the released decoders in bfloat16 with random weights. Without a GPU their real decodes run on
torch's meta device, which computes nothing: every tensor has its true size, and what is alive is counted.
That is what a GPU's allocator would hold, without the workspace of convolutions. With ``--device cuda`` they
are decoded for real, and ``torch.cuda.max_memory_allocated`` is read. ``error``: two tiles against the whole
decode, by context, with and without the coarse low band, for tiny and for small random weights.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLLTXVideo
from torch import Tensor

# The configurations of the released decoders, and the counting of allocations, stand beside the tests.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from allocations import Allocations
from small_vae import RELEASED, small_vae
from tiles import load, pictures, random_vae

from ltx_ray.decoding.tile import denormalize
from ltx_ray.models.autoencoders.adaptive_vae_decoder import AdaptiveVAEDecoder, create_adaptive_decoder
from ltx_ray.models.autoencoders.decode_plan import DecodePlan
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder
from ltx_ray.planning.geometry import Ratios, latents_of

GIB = 2**30
SIZES = {"512x768": (16, 24), "1088x1920": (34, 60), "2176x3840": (68, 120)}  # rows and columns of cells
# Name -> (budget in bytes, tile_size, overlap); a budget of None: not tiled.
SETTINGS: dict[str, tuple[int | None, int | None, int | None]] = {
    "whole": (None, None, None),
    "16 GiB": (16 * GIB, None, None),
    "8 GiB": (8 * GIB, None, None),
    "tiles 1024/128": (16 * GIB, 1024, 128),
    "tiles 512/64": (16 * GIB, 512, 64),
}
OVERLAPS = {0: 64, 1: 128, 2: 256, 4: 512}  # cells of context -> pixels of overlap
TIMESTEP = 0.05


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """One decode; GiB."""

    decoder: str
    size: str
    frames: int
    setting: str
    weights: float
    video: float  # the pixels themselves, which vae.decode returns whole
    estimated: float  # activations of the largest decode
    measured: float | None  # peak with the video, without the weights; None: the GPU could not
    work: float  # cells decoded over those of the clip
    tiles: str


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Two tiles against the whole decode."""

    model: str
    picture: str
    context: int  # cells
    ramp: int  # pixels
    rms: float
    max: float
    low_band_rms: float
    low_band_max: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("memory", "error", "all"), default="all")
    parser.add_argument("--frames", type=int, nargs="+", default=[9, 121, 257])
    parser.add_argument("--device", default="cpu", help="cpu counts allocations, cuda decodes")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    diffusers.utils.logging.set_verbosity_error()
    document: dict[str, list[Any]] = {}
    if options.part != "error":
        document["memory"] = list(memory(options.frames, options.device))
    if options.part != "memory":
        document["error"] = list(errors())
    if options.json:
        plain = {name: [asdict(row) for row in rows] for name, rows in document.items()}
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
        return
    for name, rows in document.items():
        sys.stdout.write((_memory_table if name == "memory" else _error_table)(rows) + "\n")


@torch.inference_mode()
def memory(frames: list[int], device: str) -> Iterator[MemoryRow]:
    """Every decoder at every size, length and setting."""
    where = "cuda" if device.startswith("cuda") else "meta"
    for version in RELEASED:
        with torch.device("cuda" if where == "cuda" else "meta"):
            vae = small_vae(version, **RELEASED[version], latent_channels=128).to(torch.bfloat16)
        decoder = create_adaptive_decoder(vae)
        weights = sum(parameter.nbytes for parameter in decoder.parameters()) / GIB
        for size, (rows, columns) in SIZES.items():
            for count in frames:
                shape = (1, 128, latents_of(count, Ratios()), rows, columns)
                latents = torch.zeros(shape, device=where, dtype=torch.bfloat16)
                for setting, limits in SETTINGS.items():
                    yield _measured(decoder, latents, version, size, setting, limits, weights)


def _measured(
    decoder: AdaptiveVAEDecoder,
    latents: Tensor,
    version: str,
    size: str,
    setting: str,
    limits: tuple[int | None, int | None, int | None],
    weights: float,
) -> MemoryRow:
    budget, tile_size, overlap = limits
    decoder.memory_budget = budget or 16 * GIB
    if budget is None:
        decoder.disable_tiling()
    else:
        decoder.enable_tiling(tile_size, overlap)
    timestep = torch.full((1,), TIMESTEP, device=latents.device, dtype=latents.dtype)
    peak = (_peak_on_cuda if latents.is_cuda else _peak_counted)(lambda: decoder(latents, timestep))
    plan = decoder.plan(latents)
    cells = latents[0, 0].numel()
    frames = decoder.ratios.time * (latents.shape[2] - 1) + 1
    video = frames * latents.shape[3] * latents.shape[4] * decoder.ratios.space**2 * 3 * 2
    return MemoryRow(
        decoder=version,
        size=size,
        frames=frames,
        setting=setting,
        weights=weights,
        video=video / GIB,
        estimated=plan.bytes_estimated / GIB,
        measured=None if peak is None else peak / GIB,
        work=_cells(plan) / cells,
        tiles=" x ".join(str(count) for count in plan.grid),
    )


def _peak_counted(decode: Callable[[], Tensor]) -> int:
    with Allocations() as allocations:
        decode()
    return allocations.peak


def _peak_on_cuda(decode: Callable[[], Tensor]) -> int | None:
    """Bytes beyond what was held before, or None where the GPU cannot."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        decode()
    except RuntimeError:  # out of memory, or a tensor of more elements than its kernels can count
        return None
    return torch.cuda.max_memory_allocated() - before


def _cells(plan: DecodePlan) -> int:
    """Latent cells that are decoded, context included."""
    if not plan.tiled:
        return plan.latents * plan.rows * plan.columns
    plane = sum(
        (tile.y.in_stop - tile.y.in_start) * (tile.x.in_stop - tile.x.in_start)
        for tile in plan.slabs[0].tiles
    )
    return plane * sum(slab.t.in_stop - slab.t.in_start for slab in plan.slabs)


@torch.inference_mode()
def errors() -> Iterator[ErrorRow]:
    """By context: the error of two tiles, plain and with the coarse low band."""
    for model, vae in (("tiny", load("tiny")), ("random", random_vae())):
        decoder = create_adaptive_decoder(vae.eval(), HierarchicalVAEEncoder())
        vae.decoder = decoder
        for picture, latents in pictures(vae, (2, 8, 46)):
            raw = denormalize(latents, vae)
            decoder.disable_tiling()
            whole = _pixels(vae, raw)
            for context, overlap in OVERLAPS.items():
                # Half of the frame, and what lies beyond.
                decoder.enable_tiling((23 + -(-overlap // 64)) * 32, overlap)
                found = []
                for low_band in (False, True):
                    decoder.coarse_low_band = low_band
                    error = _pixels(vae, raw) - whole
                    found += [float(error.square().mean().sqrt()), float(error.abs().max())]
                decoder.coarse_low_band = False
                assert decoder.last_plan is not None
                assert (decoder.last_plan.grid, decoder.last_plan.halo) == ((1, 1, 2), context)
                yield ErrorRow(model, picture, context, decoder.last_plan.ramp, *found)


def _pixels(vae: AutoencoderKLLTXVideo, latents: Tensor) -> Tensor:
    """Clamped, as any video is."""
    timestep = torch.tensor([TIMESTEP]) if vae.config.timestep_conditioning else None
    pixels: Tensor = vae.decode(latents, timestep, return_dict=False)[0]
    return pixels.clamp(-1, 1)


def _memory_table(rows: list[MemoryRow]) -> str:
    lines = [
        "GiB; measured: activations and the video; tiles: slabs x rows x columns",
        f"{'decoder':8}{'size':11}{'frames':>7} {'setting':15}{'weights':>8}{'video':>7}{'estimated':>10}"
        f"{'measured':>9}{'work':>7}  tiles",
    ]
    for row in rows:
        measured = "none" if row.measured is None else f"{row.measured:.2f}"
        lines.append(
            f"{row.decoder:8}{row.size:11}{row.frames:7} {row.setting:15}{row.weights:8.2f}{row.video:7.2f}"
            f"{row.estimated:10.2f}{measured:>9}{row.work:6.2f}x  {row.tiles}"
        )
    return "\n".join(lines) + "\n"


def _error_table(rows: list[ErrorRow]) -> str:
    lines = [
        f"{'model':8}{'picture':16}{'context':>8}{'ramp':>6}{'rms':>10}{'max':>10}{'low-band rms':>14}"
        f"{'max':>10}"
    ]
    lines += [
        f"{row.model:8}{row.picture:16}{row.context:8}{row.ramp:6}{row.rms:10.1e}{row.max:10.1e}"
        f"{row.low_band_rms:14.1e}{row.low_band_max:10.1e}"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

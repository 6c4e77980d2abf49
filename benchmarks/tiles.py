"""How far tiled decodes are from the whole decode: ours beside diffusers' tilings, at equal work.

    python benchmarks/tiles.py [--model tiny|PATH | --random] [--device cpu] [--json]

Each method is given the same number of decoded latent cells (halos and overlaps included) and tiles that
are no larger than ours, and then its largest overlap. Errors are on floats, clamped to [-1, 1] as any video
is. Two pictures: latents encoded from a smooth moving picture, and normal noise. The noise that some
decoders want is off.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKLLTXVideo, LTXI2VLongMultiPromptPipeline
from torch import Tensor

from ltx_ray.decoding.receptive import exact_halo
from ltx_ray.decoding.tile import DecodeSettings
from ltx_ray.decoding.whole import decode_shot
from ltx_ray.planning.geometry import Ratios, frames_of
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.types import Slab

TIMESTEP = 0.05

# (method, setting) -> (latent cells decoded, pixels [3, F, H, W])
Results = dict[tuple[str, str], tuple[int, Tensor]]


@dataclass(frozen=True, slots=True)
class Row:
    """One decode against the whole one."""

    axis: str
    picture: str
    method: str
    setting: str
    cells: int  # latent cells decoded
    work: float  # the same, over those of the whole decode
    max: float
    rms: float


@dataclass(frozen=True, slots=True)
class Cut:
    """How another method cuts one axis, in latents: its parts and what their sizes come to."""

    size: int
    overlap: int
    parts: int
    total: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny", help="tiny, or a folder with a checkpoint")
    parser.add_argument("--random", action="store_true", help="a small VAE with random weights instead")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args()
    diffusers.utils.logging.set_verbosity_error()
    vae = random_vae() if options.random else load(options.model)
    vae = vae.to(options.device).eval()
    halo, temporal_halo = exact_halo(vae.config)
    # As small as they can be for tiles at the exact halo to be cut still.
    plane, length = 2 * (halo + 3), 2 * (temporal_halo + 3)
    rows = []
    with torch.inference_mode():
        for size, axis in (((2, plane, plane), "space"), ((length, 3, 3), "time")):
            for picture, latents in pictures(vae, size):
                rows += _compare(vae, latents, axis, picture)
    if options.json:
        document = {"exact_halo": [halo, temporal_halo], "rows": [asdict(row) for row in rows]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        sys.stdout.write(_table(rows))


def _compare(vae: AutoencoderKLLTXVideo, latents: Tensor, axis: str, picture: str) -> Iterator[Row]:
    whole = _whole(vae, latents)
    area = latents[0, 0].numel()
    exact = exact_halo(vae.config)[axis == "time"]
    for halo in sorted({2, 4, 8, exact}):
        slabs = _slabs(vae, latents, halo, axis)
        axes = [slab.t for slab in slabs] if axis == "time" else [tile.x for tile in slabs[0].tiles[:2]]
        sizes = [i.in_stop - i.in_start for i in axes]
        name = f"halo {halo}" + (" (exact)" if halo == exact else "")
        results = {("ours", name): (_cells(slabs), _ours(vae, latents, slabs))}
        others = _in_time if axis == "time" else _in_space
        results |= others(vae, latents, max(sizes), sum(sizes))
        for (method, setting), (cells, pixels) in results.items():
            error = pixels.clamp(-1, 1) - whole.clamp(-1, 1)
            worst, rms = float(error.abs().max()), float(error.square().mean().sqrt())
            yield Row(axis, picture, method, setting, cells, cells / area, worst, rms)


def _in_space(vae: AutoencoderKLLTXVideo, latents: Tensor, size: int, total: int) -> Results:
    frames, cells = latents.shape[2:4]
    ratio = vae.spatial_compression_ratio
    cut = _best(_stride_cuts(cells), size, total)
    step = (cut.size - cut.overlap) * ratio
    vae.enable_tiling(cut.size * ratio, cut.size * ratio, None, step, step)
    tiled = _whole(vae, latents)
    vae.disable_tiling()
    results = {("enable_tiling", _describe(cut)): (frames * cut.total**2, tiled)}
    cut = _best(_count_cuts(cells), size, total)
    pipeline = LTXI2VLongMultiPromptPipeline(None, vae, None, None, None)
    tiled = pipeline.vae_decode_tiled(
        latents,
        decode_timestep=TIMESTEP,
        horizontal_tiles=cut.parts,
        vertical_tiles=cut.parts,
        overlap=cut.overlap,
        last_frame_fix=False,
    )[0].cpu()
    return {**results, ("vae_decode_tiled", _describe(cut)): (frames * cut.total**2, tiled)}


def _in_time(vae: AutoencoderKLLTXVideo, latents: Tensor, size: int, total: int) -> Results:
    length, rows, columns = latents.shape[2:]
    ratio = vae.temporal_compression_ratio
    # Its tiles are one latent longer than asked for.
    cut = _best(_stride_cuts(length), size, total)
    vae.enable_tiling(10**6, 10**6, (cut.size - 1) * ratio, 10**6, 10**6, (cut.size - cut.overlap) * ratio)
    vae.use_framewise_decoding = True
    tiled = _whole(vae, latents)
    vae.use_framewise_decoding = False
    vae.disable_tiling()
    return {("temporal tiling", _describe(cut)): (cut.total * rows * columns, tiled)}


def _stride_cuts(length: int) -> Iterator[Cut]:
    """Cuts by ``AutoencoderKLLTXVideo``: a tile of ``size`` at every multiple of a stride, cut at the end."""
    for size in range(2, length):
        for stride in range(1, size):
            starts = range(0, length, stride)
            total = sum(min(start + size, length) - start for start in starts)
            yield Cut(size, size - stride, len(starts), total)


def _count_cuts(length: int) -> Iterator[Cut]:
    """Cuts by ``vae_decode_tiled``: a number of tiles with an overlap, the last one to the end."""
    for parts in range(2, length // 2):
        for overlap in range(1, length):
            base = (length + (parts - 1) * overlap) // parts
            last = length - (parts - 1) * (base - overlap)
            if overlap < base:
                yield Cut(max(base, last), overlap, parts, (parts - 1) * base + last)


def _best(cuts: Iterator[Cut], size: int, total: int) -> Cut:
    """The largest overlap that tiles of ``size`` and ``total`` latents along the axis allow."""
    allowed = [cut for cut in cuts if cut.size <= size and cut.total <= total]
    return max(allowed, key=lambda cut: (cut.overlap, cut.total, cut.size))


def _describe(cut: Cut) -> str:
    return f"{cut.parts} x {cut.size}, overlap {cut.overlap}"


def _slabs(vae: AutoencoderKLLTXVideo, latents: Tensor, halo: int, axis: str) -> tuple[Slab, ...]:
    """Two slabs, or two by two tiles."""
    length, rows, columns = latents.shape[2:]
    ratios = _ratios(vae)
    settings = TileSettings(
        halo=halo,
        temporal_halo=halo,
        ramp=2 * ratios.space,
        ramp_frames=ratios.time,
        tile_size=(rows // 2 + 1 + halo) * ratios.space if axis == "space" else 10**6,
        slab_frames=length // 2 * ratios.time if axis == "time" else 10**6,
        tile_bytes=2**62,
        bytes_per_cell=1,
    )
    return plan_slabs(frames_of(length, ratios), length, rows, columns, settings, ratios)


def _cells(slabs: tuple[Slab, ...]) -> int:
    axes = [(slab.t, tile.y, tile.x) for slab in slabs for tile in slab.tiles]
    t, y, x = ([i.in_stop - i.in_start for i in column] for column in zip(*axes, strict=True))
    return sum(a * b * c for a, b, c in zip(t, y, x, strict=True))


def _ours(vae: AutoencoderKLLTXVideo, latents: Tensor, slabs: tuple[Slab, ...]) -> Tensor:
    settings = DecodeSettings(
        decode_timestep=TIMESTEP,
        decode_noise_scale=0.0,
        seed=0,
        rows=latents.shape[3],
        columns=latents.shape[4],
        device=latents.device,
        ratios=_ratios(vae),
    )
    return decode_shot(vae, latents, slabs, settings)


def _whole(vae: AutoencoderKLLTXVideo, latents: Tensor) -> Tensor:
    mean, std = _statistics(vae)
    timestep = torch.tensor([TIMESTEP], device=latents.device) if vae.config.timestep_conditioning else None
    pixels: Tensor = vae.decode(
        latents * std / vae.config.scaling_factor + mean, timestep, return_dict=False
    )[0]
    return pixels[0].cpu()


def pictures(vae: AutoencoderKLLTXVideo, size: tuple[int, int, int]) -> Iterator[tuple[str, Tensor]]:
    """Normalised latents ``[1, C, *size]`` of a smooth moving picture, and as many random ones."""
    ratios, device = _ratios(vae), vae.device
    mean, std = _statistics(vae)
    film = _film(frames_of(size[0], ratios), size[1] * ratios.space, size[2] * ratios.space).to(device)
    encoded = vae.encode(film).latent_dist.mode()
    yield "moving picture", (encoded - mean) * vae.config.scaling_factor / std
    generator = torch.Generator().manual_seed(0)
    yield "random", torch.randn(encoded.shape, generator=generator).to(device)


def _film(frames: int, height: int, width: int) -> Tensor:
    """``[1, 3, frames, height, width]`` in [-1, 1]: coloured waves under a disc, both moving."""
    t = torch.arange(frames).view(-1, 1, 1) / 24
    y = torch.arange(height).view(1, -1, 1) / 128
    x = torch.arange(width).view(1, 1, -1) / 128
    waves = [torch.sin(2.1 * x + phase + 2 * t) * torch.cos(1.7 * y - phase + t) for phase in (0.0, 1.0, 2.0)]
    distance = (x - width / 256 - 0.4 * torch.sin(3 * t)) ** 2 + (y - height / 256) ** 2
    disc = torch.sigmoid(40 * (0.25 - distance))
    colours = zip(waves, (0.9, -0.2, -0.8), strict=True)
    return torch.stack([0.7 * wave * (1 - disc) + colour * disc for wave, colour in colours])[None]


def _statistics(vae: AutoencoderKLLTXVideo) -> tuple[Tensor, Tensor]:
    return vae.latents_mean.view(1, -1, 1, 1, 1), vae.latents_std.view(1, -1, 1, 1, 1)


def _ratios(vae: AutoencoderKLLTXVideo) -> Ratios:
    return Ratios(time=vae.temporal_compression_ratio, space=vae.spatial_compression_ratio)


def load(name: str) -> AutoencoderKLLTXVideo:
    from ltx_ray.models.checkpoint import resolve

    return resolve(name).load_vae(torch.float32, "cpu")


def random_vae() -> AutoencoderKLLTXVideo:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "latent_channels": 16,
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": (0, 0, 0, 0, 0),
        "decoder_block_out_channels": (8, 16, 16),
        "decoder_layers_per_block": (1, 1, 1, 1),
        "decoder_spatio_temporal_scaling": (True, True, True),
        "decoder_inject_noise": (False, False, False, False),
        "upsample_residual": (False, False, False),
        "upsample_factor": (1, 1, 1),
    }
    return AutoencoderKLLTXVideo(**options)


def _table(rows: list[Row]) -> str:
    head = "{:6} {:15} {:17} {:20} {:>6} {:>6} {:>8} {:>8}".format(
        "axis", "picture", "method", "setting", "cells", "work", "max", "rms"
    )
    lines = [
        f"{row.axis:6} {row.picture:15} {row.method:17} {row.setting:20} "
        f"{row.cells:6} {row.work:5.2f}x {row.max:8.1e} {row.rms:8.1e}"
        for row in rows
    ]
    return "\n".join([head, *lines]) + "\n"


if __name__ == "__main__":
    main()

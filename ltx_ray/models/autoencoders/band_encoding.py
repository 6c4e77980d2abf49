"""Encoding images and videos of any size with a VAE's own encoder, within a budget of memory.

What fits the budget is encoded whole, by the same call as ever. Else the frame is cut into bands of rows,
where that is less work also into columns and in time; every block is encoded with context around it, and of
its latents only its own are kept.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES
from ltx_ray.errors import ConfigError, UserError
from ltx_ray.models.autoencoders.encoder_layers import Reach, encoder_bytes_per_cell, encoder_reach
from ltx_ray.planning.geometry import Ratios, first_frame, frames_of, latents_of
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.types import Interval, Slab

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo

# Context where the exact one does not fit or costs too much, in cells and in latents: with random weights the
# encoder of 0.9.5 is exact to 1e-5 of its latents' deviation with 8 cells, that of 0.9.0 to 4e-2.
DEFAULT_CONTEXT = 8
# Exact context may make the work so many times that of a whole encode.
_MOST_WORK = 2.0

Size = tuple[int, int, int]  # latents, rows, columns


@torch.no_grad()
def encode_in_bands(
    vae: "AutoencoderKLLTXVideo",
    pixels: Tensor,
    memory_budget: int | None = None,
    context: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> Tensor:
    """The mode of the posterior ``[B, C, T, h, w]`` of ``pixels`` ``[B, 3, F, H, W]`` in [-1, 1].

    F is 8k + 1; H and W are multiples of the VAE's spatial ratio. ``pixels`` may lie on another device than
    the VAE, and in another dtype: they are moved block by block. ``memory_budget``: bytes for the activations
    of one encode (None: 2 GiB on a CPU, 16 GiB on a GPU). ``context``: cells (and latents) of context around
    a block; None takes the exact one, with which blocks agree with the whole encode, where it fits and costs
    at most as much work again, else 8 cells, and 8 latents only where it cannot be exact in time. Samples of
    a batch are encoded one by one. Stock tiling of the VAE should be off: it would cut the blocks again.
    ``device``: where the VAE computes; None: where its weights lie (offloaded, they lie elsewhere).
    Raises UserError for sizes off the grid, ConfigError where not even the smallest block fits the budget.
    """
    ratios = Ratios(time=vae.temporal_compression_ratio, space=vae.spatial_compression_ratio)
    latents, rows, columns = _size(pixels, ratios)
    per_cell = encoder_bytes_per_cell(vae.config, vae.dtype.itemsize, one_frame=latents == 1)
    device = torch.device(vae.device if device is None else device)
    budget = memory_budget or DEFAULT_TILE_BYTES.get(device.type, DEFAULT_TILE_BYTES["cuda"])
    samples = torch.split(pixels, 1)
    if latents * rows * columns * per_cell <= budget:
        return torch.cat([_encode(vae, sample, device) for sample in samples])
    reach = encoder_reach(vae.config)
    slabs = plan_bands((latents, rows, columns), reach, ratios, per_cell, budget, context)
    return torch.cat([_in_blocks(vae, sample, slabs, ratios, device) for sample in samples])


def plan_bands(
    size: Size,
    reach: Reach,
    ratios: Ratios,
    bytes_per_cell: int,
    memory_budget: int,
    context: int | None = None,
) -> tuple[Slab, ...]:
    """The blocks of an encode of ``size``, as slabs and tiles without ramps; ``context`` as above.

    Raises ConfigError where no block fits ``memory_budget`` (bytes).
    """
    everywhere = Reach(DEFAULT_CONTEXT, DEFAULT_CONTEXT, DEFAULT_CONTEXT)
    if context is None:
        choices = [reach, replace(reach, space=DEFAULT_CONTEXT), everywhere]
    else:
        choices = [Reach(context, context, context)]
    most = _MOST_WORK * size[0] * size[1] * size[2]
    for choice in choices:
        try:
            slabs = _cut(size, choice, reach, ratios, bytes_per_cell, memory_budget)
        except ConfigError:
            continue
        # Exact context is a choice only where it is cheap.
        if choice is not reach or _cells(slabs) <= most:
            return slabs
    raise ConfigError(
        f"memory_budget must hold one block of this encode with {min(choices[-1].space, reach.space)} cells "
        f"of context, {bytes_per_cell} bytes a cell, got {memory_budget} bytes: raise it or lower context"
    )


def _cut(
    size: Size, context: Reach, exact: Reach, ratios: Ratios, bytes_per_cell: int, memory_budget: int
) -> tuple[Slab, ...]:
    """The cut with the least work whose blocks, with their context, fit the budget."""
    settings = TileSettings(
        halo=min(context.space, exact.space),
        # The first latent of a block is always spoiled.
        temporal_halo=max(min(context.before, exact.before), 1),
        trailing_halo=min(context.after, exact.after),
        ramp=0,
        ramp_frames=0,
        tile_size=None,
        slab_frames=max(size[0], 2) * ratios.time,
        tile_bytes=memory_budget,
        bytes_per_cell=bytes_per_cell,
    )
    return plan_slabs(frames_of(size[0], ratios), *size, settings, ratios)


def _cells(slabs: tuple[Slab, ...]) -> int:
    """Latent cells that are encoded, context included."""
    tiles = slabs[0].tiles
    plane = sum((t.y.in_stop - t.y.in_start) * (t.x.in_stop - t.x.in_start) for t in tiles)
    return plane * sum(slab.t.in_stop - slab.t.in_start for slab in slabs)


def _in_blocks(
    vae: "AutoencoderKLLTXVideo",
    pixels: Tensor,
    slabs: tuple[Slab, ...],
    ratios: Ratios,
    device: torch.device,
) -> Tensor:
    """The latents of one sample ``[1, 3, F, H, W]``."""
    latents, rows, columns = _size(pixels, ratios)
    result = torch.empty(
        1, vae.config.latent_channels, latents, rows, columns, device=device, dtype=vae.dtype
    )
    for slab in slabs:
        start, stop = latents_of(slab.t.out_start + 1, ratios) - 1, latents_of(slab.t.out_stop, ratios)
        first = slab.t.in_start
        frames = slice(first * ratios.time, first_frame(slab.t.in_stop, ratios))
        for tile in slab.tiles:
            block = pixels[:, :, frames, _pixels(tile.y, ratios), _pixels(tile.x, ratios)]
            made = _encode(vae, block, device)[:, :, start - first : stop - first]
            (y, own_rows), (x, own_columns) = (_kept(axis, ratios) for axis in (tile.y, tile.x))
            result[:, :, start:stop, y, x] = made[..., own_rows, own_columns]
    return result


def _encode(vae: "AutoencoderKLLTXVideo", pixels: Tensor, device: torch.device) -> Tensor:
    mode: Tensor = vae.encode(pixels.to(device=device, dtype=vae.dtype)).latent_dist.mode()
    return mode


def _pixels(axis: Interval, ratios: Ratios) -> slice:
    return slice(axis.in_start * ratios.space, axis.in_stop * ratios.space)


def _kept(axis: Interval, ratios: Ratios) -> tuple[slice, slice]:
    """A block's own cells, in the frame and in the block."""
    start, stop, crop = (value // ratios.space for value in (axis.out_start, axis.out_stop, axis.crop))
    return slice(start, stop), slice(crop, crop + stop - start)


def _size(pixels: Tensor, ratios: Ratios) -> Size:
    """(latents, rows, columns). Raises UserError where the pixels do not stand on the VAE's grid."""
    if pixels.ndim != 5:
        raise UserError(f"pixels must be [B, 3, F, H, W], got {list(pixels.shape)}")
    frames, height, width = pixels.shape[2:]
    if frames < 1 or (frames - 1) % ratios.time or height % ratios.space or width % ratios.space:
        raise UserError(
            f"pixels must have {ratios.time}k + 1 frames and sides that are multiples of {ratios.space}, got "
            f"{frames} frames of {height} x {width}: pad or crop them"
        )
    return latents_of(frames, ratios), height // ratios.space, width // ratios.space

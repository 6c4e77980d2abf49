"""One tile of a slab: latents in, the tile's own pixels out."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltx_ray.decoding.noise import decode_noise, injected_noise
from ltx_ray.errors import BadResultError, LtxRayError, ModelError
from ltx_ray.planning.geometry import Ratios, frames_of
from ltx_ray.types import Interval, Slab, Tile

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo


_in_decode_tile = ContextVar("_in_decode_tile", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    """What all tiles of a shot have in common."""

    decode_timestep: float  # in [0, 1]; used where the VAE has timestep_conditioning
    decode_noise_scale: float  # in [0, 1], share of noise in the latents; used as above
    seed: int  # the shot's, keys the decoder's noise
    rows: int  # cells of the whole plane
    columns: int
    device: torch.device | str
    ratios: Ratios


def decode_tile(
    vae: "AutoencoderKLLTXVideo",
    latents: Tensor,
    first_latent: int,
    slab: Slab,
    tile: Tile,
    settings: DecodeSettings,
) -> Tensor:
    """Pixels ``[3, frames, height, width]``, float32 in about [-1, 1] on the device, of one tile of a slab.

    ``latents`` are normalised final latents ``[1, C, n, rows, columns]`` of the shot from its latent
    ``first_latent`` on; they must hold the slab's [in_start, in_stop). The result is cut to the tile's
    [out_start, out_stop) on all three axes. The caller has set inference mode. Raises BadResultError where
    the decoder made NaN or infinite pixels, ModelError where it has other ratios than the settings.
    """
    t, y, x = slab.t, tile.y, tile.x
    start, stop = t.in_start - first_latent, t.in_stop - first_latent
    held, rows, columns = latents.shape[2:]
    if start < 0 or stop > held or (rows, columns) != (settings.rows, settings.columns):
        raise LtxRayError(
            f"slab {slab.index} wants latents [{t.in_start}, {t.in_stop}) of {settings.rows} x "
            f"{settings.columns} cells, got [{first_latent}, {first_latent + held}) of {rows} x {columns}"
        )
    block = latents[:, :, start:stop, y.in_start : y.in_stop, x.in_start : x.in_stop]
    block = denormalize(block.to(settings.device, torch.float32), vae)
    timestep = None
    if vae.config.timestep_conditioning:
        block = _noised(block, t, y, x, settings)
        timestep = torch.tensor([settings.decode_timestep], device=settings.device, dtype=vae.dtype)
    noise = injected_noise(vae.config, settings.seed, settings.rows, settings.columns, y, x)
    with _marked_as_tile(), noise:
        pixels: Tensor = vae.decode(block.to(vae.dtype), timestep, return_dict=False)[0][0]
    _check_size(pixels, t, y, x, settings.ratios)
    pixels = pixels[:, _used(t), _used(y), _used(x)].float()
    if not torch.isfinite(pixels.sum()):
        raise BadResultError(f"tile {tile.index} of slab {slab.index} decoded to NaN or infinite pixels")
    return pixels


def to_uint8(pixels: Tensor) -> NDArray[np.uint8]:
    """``[3, frames, height, width]`` in [-1, 1] as ``[frames, height, width, 3]`` in 0..255, on the CPU.

    The values are those of diffusers' ``VideoProcessor``: x / 2 + 1/2, clamped, times 255, rounded.
    """
    levels = pixels.float().mul(0.5).add_(0.5).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
    array: NDArray[np.uint8] = levels.permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return array


def denormalize(latents: Tensor, vae: "AutoencoderKLLTXVideo") -> Tensor:
    """Latents ``[B, C, T, h, w]`` as the transformer has them -> as the decoder wants them, same dtype.

    As ``LTXPipeline._denormalize_latents``.
    """
    mean, std = latent_statistics(vae, latents)
    denormalised: Tensor = latents * std / vae.config.scaling_factor + mean
    return denormalised


def normalize(latents: Tensor, vae: "AutoencoderKLLTXVideo") -> Tensor:
    """Latents ``[B, C, T, h, w]`` as the encoder makes them -> as the transformer has them, same dtype.

    As ``LTXPipeline._normalize_latents``.
    """
    mean, std = latent_statistics(vae, latents)
    normalised: Tensor = (latents - mean) * vae.config.scaling_factor / std
    return normalised


def latent_statistics(vae: "AutoencoderKLLTXVideo", latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, ``[1, C, 1, 1, 1]``, where and as ``latents`` are."""
    mean: Tensor = vae.latents_mean.view(1, -1, 1, 1, 1).to(latents)
    std: Tensor = vae.latents_std.view(1, -1, 1, 1, 1).to(latents)
    return mean, std


def is_tile() -> bool:
    """Whether this thread decodes a tile for ``decode_tile``.

    A decoder that cuts by itself must then decode it whole, and leave its noise to ``decode_tile``.
    """
    return _in_decode_tile.get()


@contextmanager
def _marked_as_tile() -> Iterator[None]:
    token = _in_decode_tile.set(True)
    try:
        yield
    finally:
        _in_decode_tile.reset(token)


def _noised(block: Tensor, t: Interval, y: Interval, x: Interval, settings: DecodeSettings) -> Tensor:
    """The block mixed with its share of the shot's decode noise, as ``LTXPipeline`` does before decoding."""
    share = settings.decode_noise_scale
    if share == 0:
        return block
    ranges = [(axis.in_start, axis.in_stop) for axis in (t, y, x)]
    noise = decode_noise(settings.seed, block.shape[1], settings.columns, *ranges)
    return (1 - share) * block + share * noise.to(block.device)


def _check_size(pixels: Tensor, t: Interval, y: Interval, x: Interval, ratios: Ratios) -> None:
    wanted = (
        frames_of(t.in_stop - t.in_start, ratios),
        (y.in_stop - y.in_start) * ratios.space,
        (x.in_stop - x.in_start) * ratios.space,
    )
    if tuple(pixels.shape[1:]) != wanted:
        raise ModelError(
            f"the VAE must decode this tile to {wanted} frames, rows and columns by the ratios "
            f"{ratios.time} and {ratios.space}, got {tuple(pixels.shape[1:])}"
        )


def _used(axis: Interval) -> slice:
    return slice(axis.crop, axis.crop + axis.size)

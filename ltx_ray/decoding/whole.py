"""A whole shot in one process, on floats: what tiles are measured by, and the single-process path."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltx_ray.decoding.blend import blend_float, ramp_weights
from ltx_ray.decoding.tile import DecodeSettings, decode_tile
from ltx_ray.types import Slab

if TYPE_CHECKING:
    from diffusers import AutoencoderKLLTXVideo


def decode_shot(
    vae: "AutoencoderKLLTXVideo", latents: Tensor, slabs: Sequence[Slab], settings: DecodeSettings
) -> Tensor:
    """All written frames ``[3, frames, rows * ratio, columns * ratio]`` of a shot, float32 on the CPU.

    ``latents`` are all the shot's normalised latents ``[1, C, T, rows, columns]``. Tiles and weights are
    those of the pools' path; nothing is rounded to 8 bits and nothing is cropped in space.
    """
    written, tail = [], None
    with torch.inference_mode():
        for slab in slabs:
            frames = _slab_frames(vae, latents, slab, settings)
            if tail is not None:
                rising = (ramp_weights(slab.t.ramp_in) / 256).astype(np.float32)[None, :, None, None]
                ramp = frames[:, : slab.t.ramp_in]
                ramp[:] = tail * (1 - rising) + ramp * rising
            written.append(frames[:, : slab.num_frames])
            tail = frames[:, slab.t.size - slab.t.ramp_out :]
    return torch.from_numpy(np.concatenate(written, axis=1))


def _slab_frames(
    vae: "AutoencoderKLLTXVideo", latents: Tensor, slab: Slab, settings: DecodeSettings
) -> NDArray[np.float32]:
    tiles = [decode_tile(vae, latents, 0, slab, tile, settings).cpu().numpy() for tile in slab.tiles]
    ratio = settings.ratios.space
    return blend_float(tiles, slab.tiles, settings.rows * ratio, settings.columns * ratio)

"""The lowest Haar band of every tile from one coarse decode of the whole frame: an experiment.

Tiles that see little context may differ in brightness. A decode of latents that were averaged over squares of
cells sees the whole frame at once; its pixels stand for the low band of the full picture's.
"""

from torch import Tensor, nn
from torch.nn import functional

from ltx_ray.errors import ConfigError
from ltx_ray.models.autoencoders.haar import Bands
from ltx_ray.models.autoencoders.vae_hierarchical import HierarchicalVAEEncoder
from ltx_ray.planning.geometry import Ratios
from ltx_ray.types import Interval, Tile


def wavelets_of(encoder: nn.Module | None) -> HierarchicalVAEEncoder:
    """``encoder`` itself. Raises ConfigError where it has no wavelets."""
    if isinstance(encoder, HierarchicalVAEEncoder) and encoder.use_wavelet:
        return encoder
    got = "none" if encoder is None else type(encoder).__name__
    raise ConfigError(
        f"coarse_low_band needs the wavelets of a HierarchicalVAEEncoder(use_wavelet=True), got {got}: "
        "give it to create_adaptive_decoder"
    )


def coarse_latents(latents: Tensor, levels: int) -> Tensor:
    """``[B, C, T, h, w]`` averaged over squares of 2**levels cells, the frame continued to whole squares."""
    square = 2**levels
    right, below = -latents.shape[4] % square, -latents.shape[3] % square
    whole = functional.pad(latents, (0, right, 0, below, 0, 0), mode="replicate")
    pooled: Tensor = functional.avg_pool3d(whole, (1, square, square))
    return pooled


def low_band_of(coarse: Tensor, levels: int, rows: int, columns: int, ratios: Ratios) -> Tensor:
    """A decode of ``coarse_latents`` as the low band ``[..., H / 2**levels, W / 2**levels]`` of the frame.

    ``rows`` and ``columns`` are the frame's cells. A level of orthonormal Haar doubles a constant.
    """
    square = 2**levels
    height, width = rows * ratios.space // square, columns * ratios.space // square
    low: Tensor = coarse[..., :height, :width] * square
    return low


def replace_low_band(
    pixels: Tensor, low: Tensor, t: Interval, tile: Tile, ratios: Ratios, encoder: HierarchicalVAEEncoder
) -> Tensor:
    """A decoded tile ``[3, f, h, w]``, halo included, with its low band taken from the frame's ``low``."""
    bands = encoder.decompose(pixels)
    top, left = (axis.in_start * ratios.space >> encoder.compression_levels for axis in (tile.y, tile.x))
    first = t.in_start * ratios.time
    frames, height, width = bands.low.shape[1:]
    theirs = low[:, first : first + frames, top : top + height, left : left + width]
    return encoder.reconstruct(Bands(theirs.to(pixels.dtype), bands.high))

"""How a pipeline's VAE is tiled: by its adaptive decoder's settings where it has one, else as a render is."""

from dataclasses import replace
from typing import Any

from ltx_ray.config import DecodingConfig
from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES, decoder_bytes_per_cell
from ltx_ray.errors import ConfigError
from ltx_ray.models.autoencoders.adaptive_vae_decoder import AdaptiveVAEDecoder
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.tiles import TileSettings

_WHOLE = 2**62  # bytes that no frame needs: nothing is cut in space


def ratios_of(pipeline: Any) -> Ratios:
    """Frames per latent and pixels per cell of an ``LTXPipeline``."""
    return Ratios(time=pipeline.vae_temporal_compression_ratio, space=pipeline.vae_spatial_compression_ratio)


def pipeline_tiles(pipeline: Any) -> TileSettings:
    """The tiles and slabs in which a long video of ``pipeline`` is decoded.

    Raises ConfigError for a decoder with ``coarse_low_band``, which needs whole frames.
    """
    vae = pipeline.vae
    ratios = ratios_of(pipeline)
    kind = "cpu" if pipeline._execution_device.type == "cpu" else "cuda"
    per_cell = decoder_bytes_per_cell(vae.config, vae.dtype.itemsize)
    settings = TileSettings.of(DecodingConfig(), ratios, per_cell, DEFAULT_TILE_BYTES[kind])
    if not isinstance(vae.decoder, AdaptiveVAEDecoder):
        return settings
    if vae.decoder.coarse_low_band:
        raise ConfigError(
            "coarse_low_band does nothing for long videos, whose frames reach the decoder in tiles: set "
            "pipeline.vae.decoder.coarse_low_band = False"
        )
    # Within the decoder's own bounds.
    tiling = vae.decoder.tiling
    if tiling is None:
        return replace(settings, tile_bytes=_WHOLE)
    halo, ramp = tiling.halo_and_ramp(ratios.space)
    tile_bytes = vae.decoder.memory_budget or settings.tile_bytes
    return replace(settings, halo=halo, ramp=ramp, tile_size=tiling.tile_size, tile_bytes=tile_bytes)


def encode_budget(pipeline: Any) -> int | None:
    """Bytes for encoding an image: the adaptive decoder's ``memory_budget``; None: by the device."""
    decoder = pipeline.vae.decoder
    return decoder.memory_budget if isinstance(decoder, AdaptiveVAEDecoder) else None

"""How a pipeline's VAE is tiled: by its adaptive decoder's settings where it has one, else as a render is."""

from dataclasses import replace
from typing import Any

from ltx_ray.config import DecodingConfig
from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES, decoder_bytes_per_cell
from ltx_ray.models.autoencoders.adaptive_vae_decoder import AdaptiveVAEDecoder
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.tiles import TileSettings

_WHOLE = 2**62  # bytes that no frame needs: nothing is cut in space


def pipeline_tiles(pipeline: Any) -> TileSettings:
    """The tiles and slabs in which a long video of ``pipeline`` is decoded."""
    vae = pipeline.vae
    ratios = Ratios(time=vae.temporal_compression_ratio, space=vae.spatial_compression_ratio)
    decoding = DecodingConfig()
    tile_bytes = largest_tile = None
    if isinstance(vae.decoder, AdaptiveVAEDecoder):
        tiling, tile_bytes = vae.decoder.tiling, vae.decoder.memory_budget
        if tiling is None:
            tile_bytes = _WHOLE
        else:
            # Within the decoder's own bounds, so that it does not cut a tile once more.
            decoding, largest_tile = DecodingConfig(tile_overlap=tiling.overlap), tiling.tile_size
    kind = "cpu" if pipeline._execution_device.type == "cpu" else "cuda"
    per_cell = decoder_bytes_per_cell(vae.config, vae.dtype.itemsize)
    settings = TileSettings.of(decoding, ratios, per_cell, tile_bytes or DEFAULT_TILE_BYTES[kind])
    return replace(settings, largest_tile=largest_tile)

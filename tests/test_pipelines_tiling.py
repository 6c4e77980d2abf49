"""A long video of a pipeline is decoded within the bounds that its adaptive decoder was given."""

import pytest
from tiny_pipelines import deaf_pipeline

from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.pipelines.pipeline_ltx_video import LTXVideoPipeline
from ltx_ray.pipelines.tiling import pipeline_tiles
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.tiles import plan_slabs


@pytest.fixture
def pipeline() -> LTXVideoPipeline:
    return deaf_pipeline()


def test_a_stock_decoder_is_tiled_as_the_renderer_does_by_default(pipeline: LTXVideoPipeline) -> None:
    tiles = pipeline_tiles(pipeline)
    assert (tiles.halo, tiles.ramp, tiles.tile_size) == (4, 64, None)
    assert tiles.tile_bytes == DEFAULT_TILE_BYTES["cpu"]


@pytest.mark.parametrize(
    ("tile_size", "overlap", "halo", "ramp"),
    [(512, 64, 0, 32), (32, 0, 0, 0), (None, None, 4, 64), (None, 6000, 47, 3000), (20_000, 512, 4, 256)],
)
def test_its_tiles_are_within_the_adaptive_decoders_bounds(
    pipeline: LTXVideoPipeline, tile_size: int | None, overlap: int | None, halo: int, ramp: int
) -> None:
    pipeline.vae.decoder = decoder = create_adaptive_decoder(pipeline.vae, memory_budget=2**29)
    decoder.enable_tiling(tile_size, overlap)
    tiles = pipeline_tiles(pipeline)
    assert (tiles.halo, tiles.ramp, tiles.tile_size, tiles.tile_bytes) == (halo, ramp, tile_size, 2**29)
    for tile in plan_slabs(9, 2, 17, 40, tiles, Ratios())[0].tiles:
        sides = [(axis.in_stop - axis.in_start) * 32 for axis in (tile.y, tile.x)]
        assert tile_size is None or max(sides) <= tile_size


def test_without_tiling_nothing_is_cut_in_space(pipeline: LTXVideoPipeline) -> None:
    pipeline.vae.decoder = decoder = create_adaptive_decoder(pipeline.vae, memory_budget=2**20)
    decoder.disable_tiling()
    assert {len(slab.tiles) for slab in plan_slabs(257, 33, 68, 120, pipeline_tiles(pipeline), Ratios())} == {
        1
    }

"""What is chosen for a clip keeps within the budget and the tile size, and so does the decode itself."""

import numpy as np
import pytest
import torch
from allocations import Allocations
from hypothesis import given, settings
from hypothesis import strategies as st
from small_vae import RELEASED, small_vae

from ltx_ray.errors import ConfigError
from ltx_ray.models.autoencoders.adaptive_vae_decoder import create_adaptive_decoder
from ltx_ray.models.autoencoders.decode_plan import Tiling, plan_decode
from ltx_ray.planning.geometry import Ratios

unhurried = settings(deadline=None, max_examples=60)


@unhurried
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 120)),
    tile_size=st.none() | st.integers(352, 2048),
    overlap=st.integers(0, 160),
    budget=st.integers(2**30, 2**34),
)
def test_no_decode_is_larger_than_the_budget_or_the_tile_size(
    size: tuple[int, int, int], tile_size: int | None, overlap: int, budget: int
) -> None:
    tiling = Tiling(tile_size=tile_size, overlap=overlap)
    tiling.check(32)
    plan = plan_decode(size, tiling=tiling, ratios=Ratios(), bytes_per_cell=786_432, memory_budget=budget)
    assert plan.bytes_estimated <= budget
    assert np.prod(plan.largest) * 786_432 == plan.bytes_estimated
    assert tile_size is None or max(plan.largest[1:]) * 32 <= tile_size
    fits = plan.whole_bytes <= budget and (tile_size is None or max(size[1:]) * 32 <= tile_size)
    assert plan.tiled == (not fits)
    written = [
        frame for slab in plan.slabs for frame in range(slab.first_frame, slab.first_frame + slab.num_frames)
    ]
    assert written == (list(range(8 * size[0] - 7)) if plan.tiled else [])


@pytest.mark.parametrize("version", RELEASED)
def test_a_4k_decode_takes_no_more_than_its_budget_beside_the_video(version: str) -> None:
    with torch.device("meta"):  # allocates and computes nothing, but has every tensor's true size
        vae = small_vae(version, **RELEASED[version], latent_channels=128).to(torch.bfloat16)
    decoder = create_adaptive_decoder(vae, memory_budget=16 * 2**30)
    latents = torch.zeros(1, 128, 16, 68, 120, device="meta", dtype=torch.bfloat16)
    timestep = torch.zeros(1, device="meta", dtype=torch.bfloat16)
    with torch.inference_mode(), Allocations() as allocations:
        pixels = decoder(latents, timestep)
    assert pixels.shape == (1, 3, 121, 2176, 3840)
    video = pixels.numel() * 2
    assert allocations.peak - video < 1.1 * 16 * 2**30
    assert decoder.last_plan is not None
    assert decoder.last_plan.whole_bytes > 90 * 2**30


@pytest.mark.parametrize(
    ("tile_size", "overlap", "message"),
    [
        (512, -1, "overlap must be 0 pixels or more, got -1"),
        (None, -8, "overlap must be 0 pixels or more, got -8"),
        (512, 512, "overlap must be smaller than tile_size, got 512 and 512"),
        (512, 320, "tile_size must be at least 608 pixels to hold its overlap, got 512 with overlap 320"),
        (64, 32, "tile_size must be at least 96 pixels"),
        (256, None, "tile_size must be at least 416 pixels"),
        (0, 0, "tile_size must be a positive number of pixels, got 0"),
    ],
)
def test_tiles_that_cannot_be_are_refused(tile_size: int | None, overlap: int | None, message: str) -> None:
    decoder = create_adaptive_decoder(small_vae("0.9.0"))
    before = decoder.tiling
    with pytest.raises(ConfigError, match=message):
        decoder.enable_tiling(tile_size, overlap)
    assert decoder.tiling == before
    decoder.enable_tiling()  # the guide's own numbers are fine
    assert decoder.tiling == Tiling(tile_size=512, overlap=64)

"""A tile size bounds every decoded tile, beside the budget; what no tile can hold is refused before a run."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned import settings_of

from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.tile_bounds import overlap_to_halo_and_ramp, smallest_tile_size
from ltx_ray.planning.tiles import plan_slabs
from ltx_ray.run import RunSpec
from ltx_ray.types import Slab

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FOUR_K = (121, 16, 68, 120)  # frames, latents, rows, columns
BYTES_PER_CELL = 786_432


def cut(size: tuple[int, int, int, int], ratios: Ratios | None = None, **tiles: object) -> tuple[Slab, ...]:
    """The slabs of a clip with the default context, where nothing else is said."""
    wanted = settings_of(bytes_per_cell=BYTES_PER_CELL, **tiles).tiles
    return plan_slabs(*size, wanted, ratios or Ratios())


def decided(*overrides: str) -> RunSpec:
    """A run of the built-in checkpoint."""
    config = RenderConfig.load(None, tuple(f"decoding.{override}" for override in overrides))
    return RunSpec.decide(config, "memory://out", "cpu")


@pytest.mark.parametrize(
    ("overlap", "halo", "ramp"),
    [(0, 0, 0), (2, 1, 0), (32, 0, 16), (64, 0, 32), (65, 1, 32), (128, 1, 64), (256, 2, 128), (512, 4, 256)],
)
def test_an_overlap_is_half_ramp_and_half_context(overlap: int, halo: int, ramp: int) -> None:
    assert overlap_to_halo_and_ramp(overlap, 32) == (halo, ramp)


@unhurried
@given(st.integers(0, 5000), st.sampled_from([1, 4, 8, 32]), st.integers(2, 200))
def test_neighbouring_tiles_decode_the_overlap_both_and_no_cell_more(
    overlap: int, ratio: int, cells: int
) -> None:
    halo, ramp = overlap_to_halo_and_ramp(overlap, ratio)
    assert halo >= 0
    assert ramp % 2 == 0
    assert 0 <= overlap / 2 - ramp < 2
    tile_size = smallest_tile_size(halo, ramp, ratio)
    sizes = {"halo": halo, "ramp": ramp, "tile_size": tile_size, "tile_bytes": 2**60}
    (slab,) = cut((1, 1, 1, cells), Ratios(space=ratio), **sizes)
    axes = [tile.x for tile in slab.tiles]
    assert all((axis.in_stop - axis.in_start) * ratio <= tile_size for axis in axes)
    for left, right in pairwise(axes):
        shared = (left.in_stop - right.in_start) * ratio
        inside = right.in_start > 0 and left.in_stop < cells
        assert shared <= -(-overlap // (2 * ratio)) * 2 * ratio
        assert shared >= overlap or not inside


def test_a_negative_overlap_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"overlap of two tiles must be 0 pixels or more, got -1"):
        overlap_to_halo_and_ramp(-1, 32)


@pytest.mark.parametrize(("tile_size", "tile_bytes"), [(512, 2**40), (512, 2**30), (4096, 2**31)])
def test_a_tile_size_bounds_tiles_beside_the_budget(tile_size: int, tile_bytes: int) -> None:
    for slab in cut(FOUR_K, tile_size=tile_size, tile_bytes=tile_bytes):
        for tile in slab.tiles:
            t, y, x = (axis.in_stop - axis.in_start for axis in (slab.t, tile.y, tile.x))
            assert max(y, x) * 32 <= tile_size
            assert t * y * x * BYTES_PER_CELL <= tile_bytes


def test_where_no_cut_fits_it_is_said_which_bound_is_in_the_way_and_what_to_do() -> None:
    halo, ramp = overlap_to_halo_and_ramp(1024, 32)
    with pytest.raises(
        ConfigError,
        match=r"size is 512 pixels, but the smallest tiles of a frame side of 2176 pixels have 1568, .*: "
        r"raise it, or lower decoding\.tile_overlap",
    ):
        cut(FOUR_K, tile_size=512, halo=halo, ramp=ramp, tile_bytes=2**40)
    with pytest.raises(ConfigError, match=r"tile_bytes is 1048576 bytes, too few for one tile .*: raise it"):
        cut(FOUR_K, tile_size=512, tile_bytes=2**20)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("tile_size=512", "tile_overlap=1024"),
            r"decoding\.tile_size must be at least 2016 pixels to hold its overlap, got 512 with "
            r"decoding\.tile_overlap 1024: raise decoding\.tile_size or lower the overlap",
        ),
        (("tile_size=512", "tile_overlap=512"), r"must be at least 992 pixels to hold its overlap, got 512"),
        (
            ("tile_size=96", "halo=1", "ramp=32"),
            r"at least 160 .* with decoding\.halo 1 and decoding\.ramp 3",
        ),
        (("tile_size=256",), r"must be at least 416 pixels .* with decoding\.halo 4 and decoding\.ramp 64"),
    ],
)
def test_a_run_whose_tiles_cannot_hold_their_overlap_is_refused_before_it_starts(
    overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        decided(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("tile_size=96", "halo=0", "ramp=32"),
        ("tile_size=512", "tile_overlap=64"),
        ("tile_size=416",),
        ("tile_overlap=4096",),
    ],
)
def test_a_run_whose_tiles_hold_their_overlap_can_cut_any_frame(overrides: tuple[str, ...]) -> None:
    spec = decided(*overrides)
    tiles = spec.plan_settings().tiles
    for cells in range(1, 150):
        slabs = plan_slabs(1, 1, 1, cells, tiles, spec.ratios)
        sides = [(t.x.in_stop - t.x.in_start) * spec.ratios.space for slab in slabs for t in slab.tiles]
        assert tiles.tile_size is None or max(sides) <= tiles.tile_size


@pytest.mark.parametrize(
    ("overrides", "got"),
    [
        (("tile_overlap=128", "halo=4"), "got tile_overlap 128 and halo 4"),
        (("tile_overlap=0", "ramp=64"), "got tile_overlap 0 and ramp 64"),
        (("tile_overlap=128", "halo=2", "ramp=32"), "got tile_overlap 128 and halo 2 and ramp 32"),
    ],
)
def test_an_overlap_is_not_given_beside_a_halo_or_a_ramp(overrides: tuple[str, ...], got: str) -> None:
    with pytest.raises(ConfigError, match=rf"config decoding: .*{got}: give one or the other"):
        decided(*overrides)

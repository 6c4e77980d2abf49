"""Tiles and slabs cover every pixel once, with exact weights, inside the shot, and within the budget."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ltx_ray.decoding.blend import ramp_weights
from ltx_ray.errors import ConfigError
from ltx_ray.planning.geometry import Ratios, frames_of, latent_at
from ltx_ray.planning.tile_bounds import smallest_tile_size
from ltx_ray.planning.tiles import TileSettings, balanced, plan_slabs, space_interval, whole_axis
from ltx_ray.types import Interval, Slab

# A busy machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RATIOS = Ratios(time=8, space=4)  # few pixels a cell, so that whole planes can be summed up


@st.composite
def _cases(draw: st.DrawFn) -> tuple[int, int, int, int, TileSettings, tuple[Slab, ...]]:
    latents = draw(st.integers(1, 40))
    rows, columns = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    num_frames = max(frames_of(latents, RATIOS) - draw(st.integers(0, 7)), 1)
    halo, ramp = draw(st.integers(0, 6)), draw(st.integers(0, 20))
    least = smallest_tile_size(halo, ramp, RATIOS.space)
    cut = TileSettings(
        halo=halo,
        temporal_halo=draw(st.integers(1, 4)),
        ramp=ramp,
        ramp_frames=draw(st.integers(0, 40)),
        tile_size=draw(st.none() | st.integers(least, least + 60)),
        slab_frames=draw(st.integers(16, 160)),
        tile_bytes=draw(st.integers(2_000, 400_000)),
        bytes_per_cell=10,
    )
    try:
        slabs = plan_slabs(num_frames, latents, rows, columns, cut, RATIOS)
    except ConfigError:
        assume(False)
    return num_frames, latents, rows, columns, cut, slabs


def _weights(axis: Interval, length: int) -> np.ndarray:
    weights = np.zeros(length, np.int64)
    weights[axis.out_start : axis.out_stop] = 256
    weights[axis.out_start : axis.out_start + axis.ramp_in] = ramp_weights(axis.ramp_in)
    fall = axis.out_stop - axis.ramp_out
    weights[fall : axis.out_stop] = ramp_weights(axis.ramp_out)[::-1]
    return weights


@unhurried
@given(_cases())
def test_weights_of_all_tiles_sum_to_65536_at_every_pixel_and_with_time_to_2_24(case) -> None:
    _, latents, rows, columns, _, slabs = case
    plane = np.zeros((rows * 4, columns * 4), np.int64)
    for tile in slabs[0].tiles:
        plane += np.outer(_weights(tile.y, rows * 4), _weights(tile.x, columns * 4))
    time = sum(_weights(slab.t, frames_of(latents, RATIOS)) for slab in slabs)
    assert np.unique(plane).tolist() == [65_536]
    assert np.unique(np.outer(plane, time)).tolist() == [2**24]


@unhurried
@given(_cases())
def test_written_frames_of_the_slabs_partition_the_shot(case) -> None:
    num_frames, *_, slabs = case
    written = [range(slab.first_frame, slab.first_frame + slab.num_frames) for slab in slabs]
    assert [frame for run in written for frame in run] == list(range(num_frames))
    assert all(run for run in written)


@unhurried
@given(_cases())
def test_ranges_lie_inside_and_crops_point_at_the_same_frame_or_pixel(case) -> None:
    _, latents, rows, columns, _, slabs = case
    for slab in slabs:
        t = slab.t
        assert 0 <= t.in_start < t.in_stop <= latents
        assert t.crop + 8 * t.in_start == t.out_start
        assert t.crop + t.size <= frames_of(t.in_stop - t.in_start, RATIOS)
        # The first frame of a block that starts inside the shot belongs to a latent that is cut in two.
        assert t.crop >= 1 or t.in_start == 0
        for axis, cells in [(t.y, rows) for t in slab.tiles] + [(t.x, columns) for t in slab.tiles]:
            assert 0 <= axis.in_start < axis.in_stop <= cells
            assert axis.crop + 4 * axis.in_start == axis.out_start
            assert axis.crop + axis.size <= 4 * (axis.in_stop - axis.in_start)


@unhurried
@given(_cases())
def test_every_used_pixel_has_its_halo_or_the_border(case) -> None:
    _, latents, rows, columns, cut, slabs = case
    for slab in slabs:
        first, last = latent_at(slab.t.out_start, RATIOS), latent_at(slab.t.out_stop - 1, RATIOS)
        assert slab.t.in_start <= max(first - cut.temporal_halo, 0)
        assert slab.t.in_stop >= min(last + 1 + cut.temporal_halo, latents)
        for axis, cells in [(t.y, rows) for t in slab.tiles] + [(t.x, columns) for t in slab.tiles]:
            assert axis.in_start <= max(axis.out_start // 4 - cut.halo, 0)
            assert axis.in_stop >= min((axis.out_stop - 1) // 4 + 1 + cut.halo, cells)


@unhurried
@given(_cases())
def test_ramps_fit_and_no_tile_is_a_sliver(case) -> None:
    *_, slabs = case
    axes = [[slab.t for slab in slabs], *([getattr(t, name) for t in slabs[0].tiles] for name in "yx")]
    for axis, ratio in zip(axes, (8, 4, 4), strict=True):
        unique = sorted(set(axis), key=lambda i: i.out_start)
        assert all(i.ramp_in + i.ramp_out <= i.size for i in unique)
        borders = [i.out_start + i.ramp_in // 2 for i in unique] + [unique[-1].out_stop]
        # A cut in time lies on a latent's first frame, 8j - 7.
        cells = [-(-border // ratio) for border in borders]
        sizes = np.diff(cells)
        assert sizes.max() - sizes.min() <= 1


@unhurried
@given(_cases())
def test_tiles_fit_the_byte_budget_and_the_tile_size_and_slabs_their_frames(case) -> None:
    _, latents, _, _, cut, slabs = case
    for slab in slabs:
        for tile in slab.tiles:
            cells = np.prod([axis.in_stop - axis.in_start for axis in (slab.t, tile.y, tile.x)])
            assert cells * cut.bytes_per_cell <= cut.tile_bytes
            sides = [(axis.in_stop - axis.in_start) * RATIOS.space for axis in (tile.y, tile.x)]
            assert cut.tile_size is None or max(sides) <= cut.tile_size
    if cut.ramp_frames <= 8:
        assert -(-latents // len(slabs)) <= cut.slab_frames // 8


def _settings(**changes: object) -> TileSettings:
    given = {
        "halo": 4,
        "temporal_halo": 2,
        "ramp": 64,
        "ramp_frames": 8,
        "tile_size": None,
        "slab_frames": 128,
        "tile_bytes": 2 * 1024**3,
        "bytes_per_cell": 786_432,
    }
    return TileSettings(**{**given, **changes})  # type: ignore[arg-type]


@unhurried
@given(_cases())
def test_no_other_cut_of_a_frame_within_the_bounds_decodes_less(case) -> None:
    _, _, rows, columns, cut, slabs = case

    def cells(parts: int, side: int) -> list[int]:
        axes = [space_interval(core, side, cut, RATIOS) for core in balanced(side, parts)]
        return [axis.in_stop - axis.in_start for axis in axes]

    def sizes(side: int) -> list[list[int]]:
        least = max(-(-cut.ramp // RATIOS.space), 1)
        found = [cells(parts, side) for parts in range(1, max(side // least, 1) + 1)]
        return [each for each in found if not cut.tile_size or max(each) * RATIOS.space <= cut.tile_size]

    depth = max(slab.t.in_stop - slab.t.in_start for slab in slabs)
    budget = cut.tile_bytes // (depth * cut.bytes_per_cell)
    planned = sum(
        (tile.y.in_stop - tile.y.in_start) * (tile.x.in_stop - tile.x.in_start) for tile in slabs[0].tiles
    )
    for ys in sizes(rows):
        assert all(planned <= sum(ys) * sum(xs) for xs in sizes(columns) if max(ys) * max(xs) <= budget)


def test_a_budget_too_small_for_any_tile_says_what_to_raise() -> None:
    with pytest.raises(ConfigError, match=r"decoding\.tile_bytes is 1048576 bytes"):
        plan_slabs(121, 16, 68, 120, _settings(tile_bytes=2**20), Ratios())


def test_an_hour_of_4k_is_planned_at_once() -> None:
    slabs = plan_slabs(86_400, 10_801, 68, 120, _settings(), Ratios())
    assert slabs[-1].first_frame + slabs[-1].num_frames == 86_400


def test_what_fits_the_budget_whole_is_not_cut() -> None:
    (slab,) = plan_slabs(97, 13, 16, 24, _settings(tile_bytes=2**40), Ratios())
    (tile,) = slab.tiles
    assert (slab.t.size, tile.y.size, tile.x.size) == (97, 512, 768)


def test_context_behind_a_slab_can_be_left_out() -> None:
    causal, both = (
        plan_slabs(321, 41, 2, 2, _settings(trailing_halo=after, ramp_frames=0, slab_frames=64), Ratios())
        for after in (0, None)
    )
    assert len(causal) == len(both) > 1
    for one, other in zip(causal, both, strict=True):
        assert one.t.in_start == other.t.in_start
        assert one.t.in_stop == latent_at(one.t.out_stop - 1, Ratios()) + 1
        assert other.t.in_stop == min(one.t.in_stop + 2, 41)


def test_an_axis_that_is_not_cut_is_all_of_it() -> None:
    axis = whole_axis(5, Ratios())
    assert (axis.in_start, axis.in_stop, axis.out_start, axis.out_stop) == (0, 5, 0, 160)
    assert (axis.ramp_in, axis.ramp_out, axis.crop, axis.size) == (0, 0, 0, 160)

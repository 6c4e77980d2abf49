"""Frames of tiles: exact in integers, the same in any order, and equal to the floats but for rounding."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import shot_of

from ltx_ray.decoding.blend import Canvas, blend_float, blend_frame, blend_slab, ramp_weights, split_tail
from ltx_ray.errors import LtxRayError
from ltx_ray.planning.geometry import Ratios, frame_for, frames_of
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.types import Slab

LATENTS, ROWS, COLUMNS = 7, 5, 8
HEIGHT, WIDTH = ROWS * 32, COLUMNS * 32
FRAMES = frames_of(LATENTS, Ratios())


def _slabs(num_frames: int = FRAMES) -> tuple[Slab, ...]:
    cut = TileSettings(
        halo=0,
        temporal_halo=1,
        ramp=22,
        ramp_frames=6,
        tile_size=128,
        slab_frames=24,
        tile_bytes=2**20,
        bytes_per_cell=1,
    )
    slabs = plan_slabs(num_frames, LATENTS, ROWS, COLUMNS, cut, Ratios())
    assert len(slabs) == 3
    assert len(slabs[0].tiles) == 2 * 4
    return slabs


def _pixels(slab: Slab, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng([seed, slab.index])
    shapes = [(slab.t.size, tile.y.size, tile.x.size, 3) for tile in slab.tiles]
    return [rng.integers(0, 256, shape, np.uint8) for shape in shapes]


def _whole(canvas: Canvas | None = None) -> Canvas:
    return canvas or Canvas(left=0, top=0, width=WIDTH, height=HEIGHT)


@pytest.mark.parametrize("n", [*range(40), 63, 64, 255, 1024])
def test_a_ramp_and_its_mirror_image_sum_to_256(n: int) -> None:
    weights = ramp_weights(n).astype(int)
    assert (weights + weights[::-1] == 256).all()
    assert (np.diff(weights) >= 0).all()
    exact = 256 * np.sin((np.arange(n) + 0.5) * np.pi / 2 / max(n, 1)) ** 2
    assert np.abs(weights - exact).max(initial=0) <= 0.5 + 1e-9


def test_a_film_cut_into_tiles_and_blended_again_is_the_film() -> None:
    film = np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    film[:3], film[3:6] = 255, 0  # the largest sums, too
    canvas = Canvas(left=5, top=9, width=WIDTH - 16, height=HEIGHT - 30)
    written, tails = [], []
    for slab in _slabs(FRAMES - 5):
        used = film[slab.t.out_start : slab.t.out_stop]
        tiles = [
            used[:, t.y.out_start : t.y.out_stop, t.x.out_start : t.x.out_stop] for t in slab.tiles
        ]  # views with the film's strides
        parts = [split_tail(tile, slab) for tile in tiles]
        written += blend_slab([body for body, _ in parts], tails, slab, canvas)
        tails = [tail for _, tail in parts]
    wanted = film[: FRAMES - 5, 9 : 9 + canvas.height, 5 : 5 + canvas.width]
    assert np.array_equal(np.stack(written), wanted)


def test_one_rounding_of_the_exact_sum_over_space_and_time() -> None:
    before, slab = _slabs()[:2]
    tails = [split_tail(pixels, before)[1] for pixels in _pixels(before)]
    bodies = [split_tail(pixels, slab)[0] for pixels in _pixels(slab)]
    frames = list(blend_slab(bodies, tails, slab, _whole()))
    rising = ramp_weights(slab.t.ramp_in).astype(int)
    for index in range(slab.t.ramp_in + 1):
        level = int(rising[index]) if index < slab.t.ramp_in else 256
        exact = np.zeros((HEIGHT, WIDTH, 3), np.uint64)
        for position, tile in enumerate(slab.tiles):
            weights = np.outer(*(_axis(i) for i in (tile.y, tile.x)))[..., None].astype(np.uint64)
            target = exact[tile.y.out_start : tile.y.out_stop, tile.x.out_start : tile.x.out_stop]
            target += bodies[position][index] * weights * np.uint64(level)
            if level < 256:
                target += tails[position][index] * weights * np.uint64(256 - level)
        assert np.array_equal(frames[index], (exact + 2**23) >> 24)


def _axis(interval) -> np.ndarray:
    weights = np.full(interval.size, 256, np.int64)
    weights[: interval.ramp_in] = ramp_weights(interval.ramp_in)
    weights[interval.size - interval.ramp_out :] = ramp_weights(interval.ramp_out)[::-1]
    return weights


@settings(max_examples=10, deadline=None)  # a busy machine is no failure
@given(st.randoms(use_true_random=False))
def test_the_order_of_tiles_never_matters(order: random.Random) -> None:
    before, slab = _slabs()[:2]
    tails = [split_tail(pixels, before)[1] for pixels in _pixels(before)]
    bodies = [split_tail(pixels, slab)[0] for pixels in _pixels(slab)]
    straight = list(blend_slab(bodies, tails, slab, _whole()))
    mixed = order.sample(range(len(bodies)), len(bodies))
    shuffled = blend_slab(
        [bodies[i] for i in mixed],
        [tails[i] for i in mixed],
        replace(slab, tiles=tuple(slab.tiles[i] for i in mixed)),
        _whole(),
    )
    assert all(np.array_equal(a, b) for a, b in zip(straight, shuffled, strict=True))


def test_integers_agree_with_floats_within_one_level() -> None:
    slab = _slabs()[0]
    tiles = [pixels[0] for pixels in _pixels(slab)]
    floats = [tile.astype(np.float32).transpose(2, 0, 1) for tile in tiles]
    exact = blend_float(floats, slab.tiles, HEIGHT, WIDTH).transpose(1, 2, 0)
    blended = blend_frame(tiles, slab.tiles, HEIGHT, WIDTH)
    assert np.abs(blended - exact).max() <= 0.5 + 1e-3


def test_read_only_and_strided_tiles_are_blended_as_they_are() -> None:
    slab = _slabs()[0]
    tiles = [pixels[0] for pixels in _pixels(slab)]
    awkward = [np.asfortranarray(tile) for tile in tiles]
    for tile in awkward:
        tile.setflags(write=False)
    straight = blend_frame(tiles, slab.tiles, HEIGHT, WIDTH)
    assert np.array_equal(blend_frame(awkward, slab.tiles, HEIGHT, WIDTH), straight)


def test_frames_come_one_by_one_and_do_not_share_memory() -> None:
    slab = _slabs()[0]
    bodies = [split_tail(pixels, slab)[0] for pixels in _pixels(slab)]
    frames = blend_slab(bodies, [], slab, _whole())
    first = next(frames)
    kept = first.copy()
    assert 1 + sum(1 for _ in frames) == slab.num_frames
    assert np.array_equal(first, kept)


def test_the_canvas_is_the_centre_of_what_the_model_makes() -> None:
    frame = frame_for(9, 250, 90, Ratios())
    assert Canvas.of(frame, shot_of(9, 250, 90)) == Canvas(left=3, top=3, width=250, height=90)


def test_a_missing_tile_or_tail_is_told() -> None:
    before, slab = _slabs()[:2]
    bodies = [split_tail(pixels, slab)[0] for pixels in _pixels(slab)]
    with pytest.raises(LtxRayError, match="tails of slab 1 must have the shapes"):
        next(blend_slab(bodies, [], slab, _whole()))
    with pytest.raises(LtxRayError, match="bodies of slab 1 must have the shapes"):
        next(blend_slab(bodies[1:], bodies, slab, _whole()))
    with pytest.raises(LtxRayError, match=f"slab 0 must have {before.t.size} frames, got 2"):
        split_tail(_pixels(before)[0][:2], before)


def test_a_layout_with_a_hole_is_refused() -> None:
    slab = _slabs()[0]
    layout = [tile for tile in slab.tiles if tile.x.out_start == 0]
    tiles = [np.zeros((t.y.size, t.x.size, 3), np.uint8) for t in layout]
    with pytest.raises(LtxRayError, match="must cover the pixels"):
        blend_frame(tiles, layout, HEIGHT, WIDTH)

"""Sizes and lengths: exact, the smallest that hold what is asked, and one mapping of latents to frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_ray.errors import UserError
from ltx_ray.planning.geometry import (
    Ratios,
    ceil_div,
    first_frame,
    frame_for,
    frames_of,
    latent_at,
    latents_of,
)

LTX = Ratios()
ratios = st.builds(Ratios, time=st.integers(1, 16), space=st.sampled_from([8, 16, 32, 64]))
frames = st.integers(1, 200_000)
evens = st.integers(1, 8192).map(lambda half: 2 * half)


@given(a=st.integers(0, 10**30), b=st.integers(1, 10**15))
def test_division_rounds_up_exactly_also_beyond_floats(a: int, b: int) -> None:
    quotient = ceil_div(a, b)
    assert quotient * b >= a > (quotient - 1) * b


@given(num_frames=frames, ratios=ratios)
def test_the_fewest_latents_that_cover_the_frames(num_frames: int, ratios: Ratios) -> None:
    latents = latents_of(num_frames, ratios)
    assert frames_of(latents, ratios) >= num_frames
    assert latents == 1 or frames_of(latents - 1, ratios) < num_frames


@given(latents=st.integers(1, 10_000), ratios=ratios)
def test_latents_and_frames_are_inverse(latents: int, ratios: Ratios) -> None:
    assert latents_of(frames_of(latents, ratios), ratios) == latents


@given(latent=st.integers(0, 10_000), ratios=ratios)
def test_each_frame_belongs_to_the_one_latent_that_covers_it(latent: int, ratios: Ratios) -> None:
    covered = range(first_frame(latent, ratios), first_frame(latent + 1, ratios))
    assert len(covered) == (1 if latent == 0 else ratios.time)
    assert {latent_at(frame, ratios) for frame in covered} == {latent}
    assert first_frame(latent + 1, ratios) == frames_of(latent + 1, ratios)


def test_the_numbers_of_ltx() -> None:
    assert [(first_frame(j, LTX), first_frame(j + 1, LTX) - 1) for j in range(3)] == [(0, 0), (1, 8), (9, 16)]
    assert [latents_of(n, LTX) for n in (1, 2, 9, 10, 121, 360, 361)] == [1, 2, 2, 3, 16, 46, 46]


def test_360_frames_at_4k_are_made_as_361_of_a_taller_picture() -> None:
    frame = frame_for(360, 3840, 2160, LTX)
    assert (frame.frames, frame.width, frame.height) == (361, 3840, 2176)
    assert (frame.crop_left, frame.crop_top) == (0, 8)
    assert (frame.latents, frame.rows, frame.columns) == (46, 68, 120)


@given(num_frames=frames, width=evens, height=evens, ratios=ratios)
def test_what_is_made_is_the_smallest_grid_that_holds_what_is_asked(
    num_frames: int, width: int, height: int, ratios: Ratios
) -> None:
    frame = frame_for(num_frames, width, height, ratios)
    assert 0 <= frame.frames - num_frames < ratios.time
    for made, asked, crop, cells in (
        (frame.width, width, frame.crop_left, frame.columns),
        (frame.height, height, frame.crop_top, frame.rows),
    ):
        assert made == cells * ratios.space
        assert 0 <= made - asked < ratios.space
        assert crop == (made - asked) // 2  # centred: both sides differ by a pixel at most


@pytest.mark.parametrize(
    ("num_frames", "width", "height", "message"),
    [
        (0, 64, 64, "num_frames must be at least 1, got 0"),
        (-5, 64, 64, "got -5"),
        (9, 65, 64, "width must be even and at least 2 pixels, got 65"),
        (9, 64, 0, "height must be even and at least 2 pixels, got 0"),
        (9, 64, -2, "height .* got -2"),
    ],
)
def test_what_no_video_can_have_is_refused(num_frames: int, width: int, height: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        frame_for(num_frames, width, height, LTX)

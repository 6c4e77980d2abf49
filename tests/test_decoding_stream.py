"""Slabs that are decoded as their latents come are those of the whole, however the latents are cut."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import settings_of, shot_of
from small_vae import small_vae
from torch import Tensor

from ltx_ray.decoding.stream import SlabStream
from ltx_ray.decoding.tile import DecodeSettings, to_uint8
from ltx_ray.decoding.whole import decode_shot
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.plan import plan_shot
from ltx_ray.types import ShotPlan

WIDTH, HEIGHT, FRAMES = 158, 62, 75  # of 160 x 64 x 81 that the model makes
Frames = dict[int, list[np.ndarray[Any, Any]]]


def plan() -> ShotPlan:
    """Eleven latents in four slabs, of four tiles each."""
    cut = {"halo": 0, "temporal_halo": 1, "ramp": 16, "ramp_frames": 4, "tile_size": 96, "slab_frames": 24}
    made = plan_shot(shot_of(FRAMES, WIDTH, HEIGHT), settings_of(57, 16, **cut))
    assert (made.frame.latents, len(made.slabs), len(made.slabs[0].tiles)) == (11, 4, 4)
    return made


def decode_settings(shot: ShotPlan) -> DecodeSettings:
    return DecodeSettings(
        decode_timestep=0.05,
        decode_noise_scale=0.1,
        seed=7,
        rows=shot.frame.rows,
        columns=shot.frame.columns,
        device="cpu",
        ratios=Ratios(),
    )


def latents() -> Tensor:
    return torch.randn(1, 8, 11, 2, 5, generator=torch.Generator().manual_seed(1))


VAE = small_vae("0.9.1")
for weight in VAE.decoder.conv_out.parameters():
    # No pixel is clipped: tiles would be before they are blended, floats after.
    weight.mul_(0.4)


def streamed(pushes: list[int], done: set[int] = frozenset()) -> Frames:  # type: ignore[assignment]
    """The frames of each slab, of latents that come in pieces of these lengths."""
    shot = plan()
    stream = SlabStream(VAE, shot, decode_settings(shot), done)
    frames: Frames = {}
    for piece in latents().split(pushes, dim=2):
        for slab, made in stream.push(piece):
            frames[slab.index] = list(made)
            assert len(frames[slab.index]) == slab.num_frames
    return frames


@pytest.fixture(scope="module")
def whole() -> Frames:
    return streamed([11])


def equal(ours: Frames, theirs: Frames) -> bool:
    return ours.keys() == theirs.keys() and all(
        np.array_equal(np.stack(ours[index]), np.stack(theirs[index])) for index in ours
    )


cuts = st.lists(st.integers(1, 10), unique=True, max_size=6).map(sorted)


@settings(deadline=None, max_examples=5)
@given(at=cuts)
def test_however_latents_are_cut_the_frames_are_the_same(whole: Frames, at: list[int]) -> None:
    pushes = [stop - start for start, stop in zip([0, *at], [*at, 11], strict=True)]
    assert equal(streamed(pushes), whole)


def test_the_frames_are_those_of_the_farm_and_of_the_plan(whole: Frames) -> None:
    shot = plan()
    wanted = to_uint8(decode_shot(VAE, latents(), shot.slabs, decode_settings(shot)))
    frames = np.stack([frame for index in sorted(whole) for frame in whole[index]])
    assert frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    left, top = shot.frame.crop_left, shot.frame.crop_top
    assert (left, top) == (1, 1)
    cropped = wanted[:FRAMES, top : top + HEIGHT, left : left + WIDTH].astype(int)
    # Tiles are rounded before they are blended, and the blend once more.
    assert np.abs(frames.astype(int) - cropped).max() <= 1


@pytest.mark.parametrize("done", [{0}, {1}, {0, 1}, {0, 2}, {3}, {1, 2, 3}, {0, 1, 2, 3}])
@pytest.mark.parametrize("pushes", [[11], [5, 3, 3]])
def test_slabs_that_are_done_are_passed_over_and_the_others_do_not_change(
    whole: Frames, done: set[int], pushes: list[int]
) -> None:
    assert equal(streamed(pushes, done), {index: whole[index] for index in range(4) if index not in done})


def test_a_slab_comes_as_soon_as_its_latents_are_there() -> None:
    shot = plan()
    stream = SlabStream(VAE, shot, decode_settings(shot))
    came = {}
    for latent, piece in enumerate(latents().split(1, dim=2)):
        for slab, frames in stream.push(piece):
            came[slab.index] = latent
            assert sum(1 for _ in frames) == slab.num_frames
    assert came == {slab.index: slab.t.in_stop - 1 for slab in shot.slabs}


def test_no_more_latents_are_held_than_the_next_slab_needs() -> None:
    shot = plan()
    stream = SlabStream(VAE, shot, decode_settings(shot))
    most = max(slab.t.in_stop - slab.t.in_start for slab in shot.slabs)
    for piece in latents().split(1, dim=2):
        for _, frames in stream.push(piece.clone()):
            list(frames)
        held = stream._held
        assert held is not None
        assert held.shape[2] <= most
        assert held.untyped_storage().nbytes() == held.nbytes

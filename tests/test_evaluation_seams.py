"""Promise: a seam that nobody can find counts 1, and a cut, a ghost or a step at a seam counts worse."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltx_ray.evaluation.curves import Curves, measure_curves
from ltx_ray.evaluation.flashes import calm_frames
from ltx_ray.evaluation.frames import ArrayPictures
from ltx_ray.evaluation.seams import SeamFigures, measure_seams
from ltx_ray.evaluation.world_seams import WorldSeamFigures, measure_world_seams
from ltx_ray.evaluation.world_track import watch
from ltx_ray.evaluation.zones import Seam, Zones, seams_of, windows_between
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.geometry import Ratios
from ltx_ray.planning.plan import PlanSettings, plan_shot
from ltx_ray.planning.tiles import TileSettings
from ltx_ray.training.world import Scene, scene
from ltx_ray.training.world_picture import render
from ltx_ray.types import PromptSpan, Shot

FPS, FRAMES, SIDE = 24.0, 121, 56
FADE, CUT = (Seam(64, 80),), (Seam(72, 72),)
Video = NDArray[np.float32]


def quiet(**changes: object) -> Scene:
    """A red square that moves to the right through the middle, and never leaves it."""
    made = replace(
        scene(0, 7, "held_out"), colour="red", shape="square", direction="right", speed=0.1, radius=0.2,
        phase=0.3, lane=0.5, background=((0.1, 0.12, 0.1), (0.2, 0.2, 0.22)), onsets=(), sound=None,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def clean(**changes: object) -> Video:
    return noisy(render(quiet(**changes), FRAMES, SIDE, SIDE, fps=FPS))


def noisy(video: Video) -> Video:
    noise = np.random.default_rng(0).normal(0, 0.01, video.shape)
    return np.clip(video + noise, 0, 1).astype(np.float32)


def joined(seam: Seam, jump: float) -> Video:
    """A chunk, and one whose shape is ``jump`` periods further, faded into it over ``seam``."""
    first = render(quiet(), FRAMES, SIDE, SIDE, fps=FPS)
    second = render(quiet(phase=0.3 + jump), FRAMES, SIDE, SIDE, fps=FPS)
    at = np.clip((np.arange(FRAMES) - seam.start + 1) / (seam.stop - seam.start + 1), 0, 1)
    part = at[:, None, None, None].astype(np.float32)
    return noisy(first * (1 - part) + second * part)


@cache
def smooth() -> Curves:
    """Of a video without any seam."""
    return measure_curves(ArrayPictures(clean(), FPS))


def figures_of(curves: Curves, seams: tuple[Seam, ...]) -> SeamFigures:
    found = measure_seams(curves, calm_frames(curves.brightness, FPS), seams)
    assert found is not None
    return found


def measured(video: Video, seams: tuple[Seam, ...]) -> SeamFigures:
    return figures_of(measure_curves(ArrayPictures(video, FPS)), seams)


def world(video: Video, seams: tuple[Seam, ...]) -> WorldSeamFigures:
    return measure_world_seams(watch(ArrayPictures(video, FPS)), 0.2, seams)


@pytest.mark.parametrize("seams", [FADE, CUT])
def test_a_clean_continuation_is_as_inside_chunks(seams: tuple[Seam, ...]) -> None:
    found = figures_of(smooth(), seams)
    assert found.difference == pytest.approx(1, abs=0.05)
    assert found.peak == pytest.approx(1, abs=0.1)
    assert found.edges == pytest.approx(1, abs=0.05)
    assert found.step is not None
    assert found.step < 0.02


@pytest.mark.parametrize("jump", [0.04, 0.2])
def test_a_hard_cut_is_found_also_where_flow_could_follow_it(jump: float) -> None:
    found = measured(joined(CUT[0], jump), CUT)
    assert found.difference is not None
    assert found.peak is not None
    assert found.difference > 1.5
    assert found.peak > 4


@pytest.mark.parametrize("jump", [0.06, 0.2])
def test_a_ghosting_crossfade_is_found_though_no_two_frames_differ_much(jump: float) -> None:
    found, even = measured(joined(FADE[0], jump), FADE), figures_of(smooth(), FADE)
    assert found.edges is not None
    assert even.edges is not None
    assert found.edges < 0.85 < even.edges
    assert found.difference is not None
    assert even.difference is not None
    assert found.difference > even.difference + 0.05


def test_a_flash_at_a_seam_is_no_seam_and_hides_no_cut_beside_it() -> None:
    flash = {"onsets": (2.7, 4.5), "sound": "beep"}
    assert measured(clean(**flash), FADE).difference == pytest.approx(1, abs=0.1)
    video = clean(**flash)
    video[72:] = np.clip(video[72:] + 0.15, 0, 1)
    found = measured(video, CUT)
    assert found.step is not None
    assert found.inside_step is not None
    assert found.step > 5 * found.inside_step


def test_a_lasting_change_of_brightness_is_a_step_and_a_difference_and_no_flash() -> None:
    video = clean()
    video[72:] = np.clip(video[72:] * 1.3, 0, 1)
    curves = measure_curves(ArrayPictures(video, FPS))
    assert calm_frames(curves.brightness, FPS).all()
    found = measured(video, CUT)
    assert found.step == pytest.approx(0.3, abs=0.06)
    assert found.peak is not None
    assert found.peak > 3


def test_without_a_seam_nothing_is_measured() -> None:
    curves = measure_curves(ArrayPictures(clean()[:9], FPS))
    assert measure_seams(curves, np.ones(9, bool), ()) is None
    found = measure_seams(curves, np.ones(9, bool), (Seam(4, 4),))
    assert found is not None
    assert (found.difference, found.edges) == (None, None), "there is nothing inside a chunk to compare with"


def test_the_way_of_the_shape_is_extrapolated_across_seams() -> None:
    even, jumped = world(clean(), FADE), world(joined(FADE[0], 0.06), FADE)
    assert max(even.seam_jumps) < 0.01
    assert max(even.inside_jumps) < 0.01
    period = 1 + 2.4 * 0.2
    assert jumped.seam_jumps[0] == pytest.approx(0.06 * period, abs=0.01)
    assert even.directions_kept == jumped.directions_kept == (True,)
    turned = clean()
    turned[80:] = turned[80:0:-1][: FRAMES - 80]
    assert world(turned, FADE).directions_kept == (False,)


RATIOS = Ratios()


def shot(num_frames: int) -> Shot:
    values = {field: None for field in Shot.__dataclass_fields__}
    values |= {
        "id": "s",
        "prompts": (PromptSpan(0, "rain"),),
        "num_frames": num_frames,
        "fps": FPS,
        "seed": 1,
    }
    values |= {"width": 640, "height": 360, "row": 1, "audio_start_s": 0.0}
    return Shot(**values)  # type: ignore[arg-type]


def settings_of(chunk_size: int, overlap: int, tile_size: int | None = None, ramp: int = 64) -> PlanSettings:
    tiles = TileSettings(
        halo=1, temporal_halo=1, ramp=ramp, ramp_frames=8, tile_size=tile_size, slab_frames=128,
        tile_bytes=2**40, bytes_per_cell=1,
    )  # fmt: skip
    return PlanSettings(
        chunks=ChunkSettings(chunk_size=chunk_size, overlap_frames=overlap), tiles=tiles, ratios=RATIOS,
        num_inference_steps=1, guidance_scale=1.0, audio_guidance_scale=1.0, hears=False,
    )  # fmt: skip


def sizes() -> Iterator[tuple[int, int]]:
    yield from (
        (size, overlap) for size in (25, 49, 97, 121) for overlap in (0, 8, 16, 24) if overlap < size - 8
    )


@given(frames=st.integers(1, 700), sizes=st.sampled_from(list(sizes())))
def test_seams_lie_where_the_plan_of_a_shot_has_them(frames: int, sizes: tuple[int, int]) -> None:
    settings = settings_of(*sizes)
    planned = Zones.of(plan_shot(shot(frames), settings), RATIOS)
    assert planned.seams == seams_of(frames, settings.chunks, RATIOS)
    assert all(0 < seam.start <= seam.stop for seam in planned.seams or ())
    for start, stop in windows_between(planned.seams or (), frames, 4):
        assert 0 <= start < stop <= frames
        assert not any(start <= seam.stop + 4 and seam.start - 4 < stop for seam in planned.seams or ())


def test_borders_of_tiles_lie_where_the_plan_of_a_shot_has_them() -> None:
    zones = Zones.of(plan_shot(shot(9), settings_of(25, 8, tile_size=320, ramp=32)), RATIOS)
    assert zones.columns
    assert all(border.at % 32 == 0 and border.ramp == 32 for border in zones.columns or ())
    # 360 rows are the middle of 384 that are decoded.
    assert all((border.at + 12) % 32 == 0 for border in zones.rows or ())
    assert zones.rows

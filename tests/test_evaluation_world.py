"""Promise: what a video of the synthetic world shows is told from its pictures, also from blurred ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ltx_ray.evaluation.frames import ArrayPictures
from ltx_ray.evaluation.world import Named, WorldFigures, measure_world, parse_prompt
from ltx_ray.evaluation.world_mask import components
from ltx_ray.evaluation.world_path import direction, fit_path
from ltx_ray.training.world import COLOURS, DIRECTIONS, SHAPES, Scene, scene
from ltx_ray.training.world_picture import render
from ltx_ray.training.world_prompts import prompt, prompts

FPS = 24.0
SIZES = ((49, 96, 96), (37, 96, 128), (49, 80, 64))
Video = NDArray[np.float32]


def shown(number: int) -> tuple[Scene, Video]:
    """A held-out scene, at a size of its own."""
    frames, height, width = SIZES[number % len(SIZES)]
    made = scene(number, frames / FPS, "held_out")
    return made, render(made, frames, height, width, fps=FPS)


def poor(video: Video, seed: int) -> Video:
    """Blurred by a Gaussian of 1.5 pixels, with noise of 30 dB, as a small VAE may decode it."""
    reach = torch.arange(-5, 6).float()
    kernel = torch.exp(-(reach**2) / (2 * 1.5**2))
    planes = torch.from_numpy(video).permute(0, 3, 1, 2).flatten(0, 1)[:, None]
    planes = F.pad(planes, (5, 5, 5, 5), mode="replicate")
    planes = F.conv2d(planes, (kernel / kernel.sum()).view(1, 1, 1, -1))
    planes = F.conv2d(planes, (kernel / kernel.sum()).view(1, 1, -1, 1))
    blurred = planes[:, 0].unflatten(0, (len(video), 3)).permute(0, 2, 3, 1).numpy()
    noise = np.random.default_rng(seed).normal(0, 0.03, video.shape)
    return np.clip(blurred + noise, 0, 1).astype(np.float32)


def figures(video: Video) -> WorldFigures:
    return measure_world(ArrayPictures(video, FPS))[0]


@pytest.mark.parametrize("is_poor", [False, True])
def test_colour_shape_and_direction_of_held_out_scenes_are_told(is_poor: bool) -> None:
    wrong = []
    for number in range(12):
        made, video = shown(number)
        found = figures(poor(video, number) if is_poor else video)
        told = (found.colour, found.shape, found.direction)
        if told != (made.colour, made.shape, made.direction):
            wrong.append((number, told))
        if found.position_error is not None:
            assert found.position_error < 0.005
        assert found.most_shapes == 1
    assert wrong == []


def test_a_shape_that_the_border_always_cuts_is_told_too() -> None:
    made = replace(scene(552, 2, "held_out"), onsets=())
    found, track = measure_world(ArrayPictures(render(made, 49, 96, 96, fps=FPS), FPS))
    assert not track.whole.any()
    assert (found.colour, found.shape, found.direction) == (made.colour, made.shape, made.direction)


def test_another_colour_shape_or_way_than_the_prompt_names_is_found() -> None:
    made, _ = shown(2)
    other = {
        "colour": next(name for name in COLOURS if name != made.colour),
        "shape": next(name for name in SHAPES if name != made.shape),
        "direction": next(name for name in DIRECTIONS if name != made.direction),
    }
    for field, value in other.items():
        found = figures(render(replace(made, **{field: value}), 49, 96, 96, fps=FPS))
        assert getattr(found, field) == value


def test_a_shape_that_jumps_or_turns_has_a_position_error_and_a_blurred_one_is_less_sharp() -> None:
    made, _ = shown(2)
    video = render(made, 97, 96, 96, fps=FPS)
    even = figures(video)
    jumping = video.copy()
    jumping[48:] = render(replace(made, phase=(made.phase + 0.1) % 1), 97, 96, 96, fps=FPS)[48:]
    assert even.position_error is not None
    assert even.position_error < 0.003
    jumped = figures(jumping).position_error
    assert jumped is not None
    assert jumped > 0.02
    blurred = figures(poor(video, 0)).sharpness
    assert even.sharpness is not None
    assert blurred is not None
    assert blurred < 0.8 * even.sharpness


def test_two_shapes_are_counted_and_a_ghost_is_one_more() -> None:
    made = replace(shown(2)[0], onsets=(), phase=0.3, radius=0.18)
    one = render(made, 25, 96, 96, fps=FPS)
    other = render(replace(made, phase=0.7), 25, 96, 96, fps=FPS)
    assert figures(one).shape_count == 1
    assert figures((one + other) / 2).shape_count == 2
    assert figures(0.6 * one + 0.4 * other).shape_count == 2


def test_a_video_without_a_shape_has_none() -> None:
    grey = np.full((25, 64, 64, 3), 0.3, np.float32)
    found = figures(grey + np.random.default_rng(0).normal(0, 0.02, grey.shape).astype(np.float32))
    assert (found.colour, found.shape, found.direction, found.position_error) == (None, None, None, None)
    assert found.shape_count == 0


def test_a_shape_that_changes_its_colour_drifts() -> None:
    made = replace(shown(2)[0], onsets=())
    video = render(made, 49, 64, 64, fps=FPS)
    steady = figures(video).colour_drift
    fade = np.linspace(1, 0.4, 49, dtype=np.float32)[:, None, None, None]
    fading = figures(video * fade).colour_drift
    assert steady is not None
    assert fading is not None
    assert steady < 0.02 < 0.1 < fading


def test_every_prompt_of_the_world_is_understood_and_no_other() -> None:
    for number in range(50):
        made = scene(number, 2, "held_out")
        assert parse_prompt(prompt(made)) == Named(made.colour, made.shape, made.direction)
    assert all(parse_prompt(text) for text in prompts("train"))
    for text in (
        "rain on a window",
        "a red circle",
        "a red and blue circle moving left",
        "",
        "redcircle left",
    ):
        assert parse_prompt(text) is None


def test_a_way_around_the_frame_is_even_across_the_wrap() -> None:
    times = np.arange(240) / FPS
    period = 1 + 2.4 * 0.2
    along = np.mod(0.5 + 0.3 * times + 0.24, period) - 0.24
    inside = (along > 0.2) & (along < 0.8)
    centres = np.stack([along, np.full(240, 0.4)], axis=1)
    path = fit_path(times[inside], centres[inside], 0.2, (1.0, 1.0))
    assert path is not None
    assert path.error < 1e-6
    assert path.velocity == pytest.approx([0.3, 0.0])
    assert direction(path.velocity) == "right"
    assert direction(np.array([0.01, 0.0])) is None


def test_parts_of_a_mask_are_told_apart() -> None:
    mask = np.zeros((12, 16), dtype=bool)
    mask[1:5, 1] = mask[4, 1:6] = mask[1:5, 5] = True  # a cup, whose sides meet at the bottom only
    mask[8:10, 10:14] = True
    assert sorted(int(part.sum()) for part in components(mask)) == [8, 11]
    assert components(np.zeros((3, 3), dtype=bool)) == []

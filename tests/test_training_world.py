"""Promise: the truth about the synthetic world is what its pictures show and what its sounds tell."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ltx_ray.errors import UserError
from ltx_ray.training.world import (
    COLOURS,
    DIRECTIONS,
    FLASH_SECONDS,
    SHAPES,
    SOUNDS,
    SPEEDS,
    TRIPLES,
    Scene,
    Split,
    scene,
)
from ltx_ray.training.world_picture import coverage, render
from ltx_ray.training.world_prompts import prompt, prompts
from ltx_ray.training.world_sound import SAMPLE_RATE, render_sound

FPS = 24.0
SPLITS: tuple[Split, ...] = ("train", "held_out")
SCENES = {split: [scene(seed, 4.0, split) for seed in range(300)] for split in SPLITS}
SOUNDING = [each for each in SCENES["train"] + SCENES["held_out"] if each.onsets]


def triple(of: Scene) -> tuple[str, str, str]:
    return of.colour, of.shape, of.direction


def without_ambience(of: Scene, seconds: float, shift: float = 0.0) -> NDArray[np.float32]:
    """A scene's sound [samples] less what is heard without any onset; exact where nothing is clipped."""
    silent = replace(of, onsets=())
    return render_sound(of, seconds, shift=shift) - render_sound(silent, seconds)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("seed", [0, 1, 12_345, 2**40])
def test_a_scene_its_picture_its_sound_and_its_prompt_are_functions_of_the_seed(
    seed: int, split: Split
) -> None:
    first, again = scene(seed, 2.0, split), scene(seed, 2.0, split)
    assert first == again
    assert np.array_equal(render(first, 9, 64, 96), render(again, 9, 64, 96))
    assert np.array_equal(render_sound(first, 2.0), render_sound(again, 2.0))
    assert prompt(first) == prompt(again)
    other = scene(seed + 1, 2.0, split)
    assert other != first
    assert not np.array_equal(render(first, 9, 64, 96), render(other, 9, 64, 96))


def test_a_longer_scene_is_the_same_with_more_beats() -> None:
    for seed in range(50):
        short, long = scene(seed, 2.0), scene(seed, 20.0)
        assert replace(short, onsets=()) == replace(long, onsets=())
        assert short.onsets == tuple(onset for onset in long.onsets if onset < 2.0)
        assert short.sound is None or len(long.onsets) > 10


def test_a_later_stretch_is_the_rest_of_the_whole() -> None:
    whole = render(SOUNDING[0], 40, 64, 96)
    assert np.abs(render(SOUNDING[0], 15, 64, 96, start=25 / FPS) - whole[25:]).max() < 1e-5


def test_what_is_held_out_is_never_trained_on() -> None:
    held_out, trained = (set(TRIPLES[split]) for split in ("held_out", "train"))
    assert not held_out & trained
    assert len(held_out | trained) == len(COLOURS) * len(SHAPES) * len(DIRECTIONS)
    assert {triple(each) for each in SCENES["held_out"]} <= held_out
    assert {triple(each) for each in SCENES["train"]} <= trained
    for words in zip(*trained, strict=True):
        assert len({words.count(word) for word in words}) == 1, "each word is trained on equally often"
    assert len({*COLOURS, *SHAPES, *DIRECTIONS} - {word for words in trained for word in words}) == 0
    assert not {each.phase for each in SCENES["held_out"]} & {each.phase for each in SCENES["train"]}


def test_held_out_prompts_are_no_prompts_of_the_training() -> None:
    known = {split: set(prompts(split)) for split in SPLITS}
    assert not known["train"] & known["held_out"]
    for split in SPLITS:
        assert {prompt(each) for each in SCENES[split]} <= known[split]
    wordings = {split: {wording(text) for text in known[split]} for split in SPLITS}
    assert not wordings["train"] & wordings["held_out"], "nor are they the same words about other things"


def wording(text: str) -> str:
    """A prompt without what it is about."""
    for words, name in ((COLOURS, "colour"), (SHAPES, "shape"), (DIRECTIONS, "direction")):
        for word in words:
            text = text.replace(f" {word}", f" {name}").replace(f"{word} ", f"{name} ")
    return text.partition(" direction")[0]


def test_a_prompt_says_what_is_shown_and_nothing_else() -> None:
    spoken = 0
    for each in SCENES["train"] + SCENES["held_out"]:
        text = prompt(each)
        words = text.rstrip(".").split()
        assert {word for word in words if word in COLOURS} == {each.colour}
        assert {word for word in words if word in SHAPES} == {each.shape}
        assert {word for word in words if word in DIRECTIONS} == {each.direction}
        for speed in set(words) & set(SPEEDS):
            low, high = SPEEDS[speed]
            assert low <= each.speed <= high
            spoken += 1
        level = np.mean(render(replace(each, onsets=(), radius=0.01), 1, 32, 32))
        assert "dark" not in words or level < 0.26
        assert "bright" not in words or level > 0.24
    assert 200 < spoken < 400


def fundamental(beep: NDArray[np.float32]) -> float:
    """Hz of the lower of a beep's tones."""
    spectrum = np.abs(np.fft.rfft(beep * np.hanning(2 * len(beep))[len(beep) :], 2**16))
    peaks = np.flatnonzero(spectrum > 0.5 * spectrum.max())
    first = peaks[: np.argmax(np.diff(peaks, append=2**16) > 200) + 1]
    return float(first[spectrum[first].argmax()] * SAMPLE_RATE / 2**16)


def test_held_out_beeps_have_pitches_that_no_training_beep_has() -> None:
    pitches: dict[Split, list[float]] = {split: [] for split in SPLITS}
    for each in SOUNDING:
        if each.sound == "beep":
            once = replace(each, onsets=(0.1,))
            beep = without_ambience(once, 0.3)[round(0.1 * SAMPLE_RATE) :]
            pitches[each.split].append(fundamental(beep))
    trained, held_out = np.array(pitches["train"]), np.array(pitches["held_out"])
    assert len(trained) > 50
    assert len(held_out) > 50
    assert np.abs(held_out[:, None] - trained[None]).min() > 8
    assert trained.min() < held_out.min()
    assert trained.max() > held_out.max()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (64, 160), (181, 97)])
@pytest.mark.parametrize("shape", SHAPES)
def test_positions_are_where_the_picture_shows_the_shape(shape: str, height: int, width: int) -> None:
    times = np.arange(0, 6, 1 / 8)
    compared = 0
    for each in (one for one in SCENES["train"][:60] if one.shape == shape):
        cover = coverage(each, times, height, width)
        radius = 1.2 * each.radius * min(height, width) + 2
        for (x, y), mask in zip(each.positions(times, height, width), cover, strict=True):
            if not (radius < x < width - radius and radius < y < height - radius):
                continue
            rows, columns = np.indices(mask.shape) + 0.5
            seen = (mask * columns).sum() / mask.sum(), (mask * rows).sum() / mask.sum()
            # The position of a triangle is a twentieth of its radius above its centroid.
            lower = 0.047 * each.radius * min(height, width) if shape == "triangle" else 0
            assert seen == pytest.approx((x, y + lower), abs=0.15)
            compared += 1
    assert compared > 20


def test_the_shape_goes_in_its_direction_at_its_speed_and_comes_back() -> None:
    for each in SCENES["train"][:40]:
        for height, width in ((64, 96), (96, 64)):
            path = each.positions(np.arange(0, 12, 1 / FPS), height, width)
            step = np.array(DIRECTIONS[each.direction]) * each.speed * min(height, width) / FPS
            moved = np.diff(path, axis=0)
            jumps = np.abs(moved - step).max(axis=1) > 1e-6
            assert jumps.sum() <= 6
            period = each.period(height, width) * np.array(DIRECTIONS[each.direction])
            assert moved[jumps] == pytest.approx(np.tile(step - period, (jumps.sum(), 1)))
            assert ((path > -0.5 * min(height, width)) & (path < 1.5 * np.array([width, height]))).all()


@pytest.mark.parametrize("fps", [24.0, 25.0, 30.0])
def test_a_flash_begins_at_the_first_frame_not_before_its_onset(fps: float) -> None:
    times = np.arange(round(4 * fps)) / fps
    for each in SOUNDING[:80]:
        level = each.flash(times)
        for onset in each.onsets:
            frame = int(np.ceil(onset * fps - 1e-9))
            if frame >= len(times):
                continue
            assert level[frame] >= np.exp(-1 / fps / FLASH_SECONDS)
            assert frame == 0 or level[frame - 1] < 0.05
            pictures = render(each, 2, 32, 32, fps=fps, start=(frame - 1) / fps).mean(axis=(1, 2, 3))
            assert frame == 0 or pictures[1] > pictures[0] + 0.1


def test_without_a_sound_nothing_flashes() -> None:
    silent = [each for each in SCENES["train"] if each.sound is None]
    assert 20 < len(silent) < 80
    assert {each.sound for each in SOUNDING} == set(SOUNDS)
    for each in silent:
        assert each.onsets == ()
        assert not each.flash(np.arange(96) / FPS).any()


def test_a_sound_begins_at_the_sample_of_its_onset() -> None:
    for each in SOUNDING[:80]:
        heard = np.abs(without_ambience(each, 4.0))
        for onset in each.onsets:
            first = round(onset * SAMPLE_RATE)
            assert heard[max(0, first - SAMPLE_RATE // 50) : first].max(initial=0) < 0.02, "silent before"
            if first + 160 > len(heard):
                continue
            # A beep's first sample is the zero of its sine.
            assert np.flatnonzero(heard[first:] > 1e-6)[0] == int(each.sound == "beep")
            assert heard[first : first + 160].max() > 0.05


@pytest.mark.parametrize("shift", [0.5, 0.123, -0.3])
def test_a_shifted_sound_is_the_same_sound_later(shift: float) -> None:
    for each in SOUNDING[:30]:
        if each.onsets[0] + shift < 0:
            continue
        samples = [round((onset + shift) * SAMPLE_RATE) - round(onset * SAMPLE_RATE) for onset in each.onsets]
        there, here = without_ambience(each, 6.0, shift), without_ambience(each, 6.0)
        for onset, moved in zip(each.onsets, samples, strict=True):
            first = round(onset * SAMPLE_RATE)
            difference = there[first + moved : first + moved + 2560] - here[first : first + 2560]
            assert np.abs(difference).mean() < 1e-3, "the same but for clipped samples"


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 32), (9, 33, 200), (3, 300, 61)])
def test_pictures_and_sounds_have_any_size_and_length(frames: int, height: int, width: int) -> None:
    for each in SCENES["held_out"][:6]:
        pixels = render(each, frames, height, width)
        assert (pixels.shape, pixels.dtype) == ((frames, height, width, 3), np.float32)
        assert 0 <= pixels.min() < pixels.max() <= 1
        sound = render_sound(each, frames / FPS)
        assert (sound.shape, sound.dtype) == ((round(frames / FPS * SAMPLE_RATE),), np.float32)
        assert np.abs(sound).max() <= 1


def test_a_scene_at_another_size_is_the_same_scene() -> None:
    for each in SCENES["train"][:20]:
        small, large = (render(each, 5, side, side) for side in (48, 144))
        reduced = large.reshape(5, 48, 3, 48, 3, 3).mean(axis=(2, 4))
        assert np.abs(reduced - small).mean() < 0.02


def test_a_scene_of_unknown_words_is_refused() -> None:
    with pytest.raises(UserError, match=r"colour must be one of red, .* got 'pink'"):
        replace(SCENES["train"][0], colour="pink")

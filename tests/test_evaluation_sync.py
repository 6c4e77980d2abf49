"""Promise: onsets of sound and picture are found where they are, and offsets are what separates them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ltx_ray.evaluation.frames import luma
from ltx_ray.evaluation.onsets import Onsets, flash_frames, picture_onsets, sound_onsets
from ltx_ray.evaluation.sync import first_frames, match, measure_sync
from ltx_ray.training.world import Scene, scene
from ltx_ray.training.world_picture import render
from ltx_ray.training.world_sound import SAMPLE_RATE, render_sound

FPS, SECONDS = 24.0, 6.0
SEEDS = (0, 2, 3, 5, 7, 9)  # held-out beeps, clicks and claps


def brightness(shown: Scene, fps: float = FPS) -> NDArray[np.float64]:
    frames = render(shown, round(SECONDS * fps), 48, 64, fps=fps)
    return luma(frames).mean(axis=(1, 2)).astype(np.float64)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_beep_click_and_clap_is_heard_to_five_milliseconds_in_noise_and_hum(seed: int) -> None:
    played = scene(seed, SECONDS, "held_out")
    found = sound_onsets(render_sound(played, SECONDS), SAMPLE_RATE)
    assert len(played.onsets) >= 3
    np.testing.assert_allclose(found.times, played.onsets, atol=0.005)


@pytest.mark.parametrize("seed", [1, 4, 6])
def test_noise_and_hum_alone_have_no_onsets(seed: int) -> None:
    silent = scene(seed, SECONDS, "held_out")
    assert silent.sound is None
    assert len(sound_onsets(render_sound(silent, SECONDS), SAMPLE_RATE).times) == 0
    assert len(sound_onsets(np.zeros((2, 100), np.float32), 48_000).times) == 0


def test_notes_of_music_are_heard_over_a_held_chord_in_stereo_at_48_khz() -> None:
    rate, starts = 48_000, np.array([0.5, 1.0, 1.25, 2.0, 2.6])
    time = np.arange(3 * rate) / rate
    wave = sum(0.05 * np.sin(2 * np.pi * pitch * time) for pitch in (110, 165, 220))
    for start, pitch in zip(starts, (330, 440, 392, 523, 349), strict=True):
        since = np.maximum(time - start, 0)
        level = np.minimum(since / 0.004, 1) * np.exp(-since / 0.3)
        wave = wave + 0.2 * sum(level * np.sin(2 * np.pi * n * pitch * since) / n for n in range(1, 8))
    found = sound_onsets(np.stack([wave, 0.8 * wave]).astype(np.float32), rate)
    np.testing.assert_allclose(found.times, starts, atol=0.015)


@pytest.mark.parametrize("fps", [24.0, 25.0, 12.0])
@pytest.mark.parametrize("seed", [0, 2, 5])
def test_flashes_are_seen_in_the_very_frame_that_first_shows_them(seed: int, fps: float) -> None:
    shown = scene(seed, SECONDS, "held_out")
    found = picture_onsets(brightness(shown, fps), fps)
    wanted = first_frames(np.array(shown.onsets), fps)
    assert flash_frames(found.strength, fps).tolist() == [f for f in wanted if f < SECONDS * fps]


def test_slow_waves_of_brightness_are_no_onsets() -> None:
    wave = 0.5 + 0.3 * np.sin(np.arange(240) / 12)
    assert len(picture_onsets(wave, FPS).times) == 0


@pytest.mark.parametrize("shift", [0.0, 0.1, -0.08, 0.5, -0.5])
@pytest.mark.parametrize("seed", [2, 8])
def test_a_shifted_sound_shifts_the_offset_by_that_much(seed: int, shift: float) -> None:
    played = scene(seed, SECONDS, "held_out")
    found = measure_sync(
        sound_onsets(render_sound(played, SECONDS, shift=-shift), SAMPLE_RATE),
        picture_onsets(brightness(played), FPS),
    )
    assert found.lag_ms == pytest.approx(1000 * shift, abs=25)
    assert found.correlation is not None
    assert found.correlation > 0.7
    if abs(shift) <= 0.1:
        assert (found.missed, found.extra) == (0, 0)
        assert found.offset_ms == pytest.approx(1000 * shift, abs=15)
        assert found.p95_ms is not None
        assert found.p95_ms <= 1000 * abs(shift) + 1000 / FPS / 2 + 5


def test_flashes_of_another_sound_are_missed_extra_and_hardly_correlated() -> None:
    played, other = scene(2, SECONDS, "held_out"), scene(7, SECONDS, "held_out")
    sound = sound_onsets(render_sound(played, SECONDS), SAMPLE_RATE)
    right, wrong = (measure_sync(sound, picture_onsets(brightness(each), FPS)) for each in (played, other))
    assert wrong.missed + wrong.extra > right.missed + right.extra
    assert right.correlation is not None
    assert wrong.correlation is not None
    assert wrong.correlation < right.correlation - 0.2


def test_a_picture_that_never_flashes_misses_every_onset_and_has_no_offset() -> None:
    played = scene(2, SECONDS, "held_out")
    sound = sound_onsets(render_sound(played, SECONDS), SAMPLE_RATE)
    found = measure_sync(sound, picture_onsets(np.full(144, 0.3), FPS))
    assert (found.matched, found.missed, found.extra) == (0, len(played.onsets), 0)
    assert (found.offset_ms, found.correlation, found.lag_ms) == (None, None, None)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_videos_are_measured_too(frames: int) -> None:
    sound = Onsets(times=np.array([0.01]), strength=np.ones(10), rate=200.0)
    assert measure_sync(sound, picture_onsets(np.linspace(0, 1, frames), FPS)).missed in (0, 1)


TIMES = st.lists(st.floats(0, 10), max_size=12).map(lambda values: np.array(sorted(values)))


@given(sound=TIMES, picture=TIMES, reach=st.floats(0.01, 1))
def test_each_onset_has_one_counterpart_at_most_and_none_that_could_have_one_is_left(
    sound: NDArray[np.float64], picture: NDArray[np.float64], reach: float
) -> None:
    pairs = match(sound, picture, reach)
    heard, shown = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert len(set(heard)) == len(heard)
    assert len(set(shown)) == len(shown)
    assert all(abs(sound[a] - picture[b]) <= reach for a, b in pairs)
    left = [b for b in range(len(picture)) if b not in shown]
    assert not any(
        abs(sound[a] - picture[b]) <= reach for a in range(len(sound)) if a not in heard for b in left
    )

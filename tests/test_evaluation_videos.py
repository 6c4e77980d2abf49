"""Promise: drift, lifeless pictures and seams of tiles are found in files, and good videos have none."""

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ltx_ray.config import EncodingConfig
from ltx_ray.errors import MediaError
from ltx_ray.evaluation.evaluate import Evaluation, evaluate, evaluate_video, figures
from ltx_ray.evaluation.figures import FIGURES, NAMES
from ltx_ray.evaluation.frames import ArrayPictures, VideoPictures, count_frames, fitted
from ltx_ray.evaluation.liveness import flicker
from ltx_ray.evaluation.picture import draw_evaluation
from ltx_ray.evaluation.tiles import measure_tiles, psnr
from ltx_ray.evaluation.zones import Border, Seam, Zones
from ltx_ray.media.join import join_segments
from ltx_ray.media.segment import SegmentWriter
from ltx_ray.training.world import scene
from ltx_ray.training.world_picture import render
from ltx_ray.training.world_prompts import prompt
from ltx_ray.training.world_sound import SAMPLE_RATE, render_sound

FPS, FRAMES = 24.0, 67
Video = NDArray[np.float32]
WORLD = scene(2, FRAMES / FPS, "held_out")


def video_of(path: Path, video: Video, sound: Video | None = None) -> Path:
    """``video`` [F, H, W, 3] in 0..1 as the renderer would write it."""
    encoding = EncodingConfig(audio_rate=SAMPLE_RATE, crf=12)
    segment = path.with_suffix(".segment.mp4")
    with SegmentWriter(segment, video.shape[2], video.shape[1], FPS, 0, encoding) as writer:
        for frame in (video.clip(0, 1) * 255).round().astype(np.uint8):
            writer.write(frame)
    join_segments([segment], [len(video)], path, FPS, None if sound is None else sound[None], encoding)
    return path


def moving(frames: int = FRAMES) -> Video:
    return render(WORLD, frames, 64, 96, fps=FPS)


def found_in(folder: Path, video: Video) -> Evaluation:
    return evaluate_video(str(video_of(folder / "video.mp4", video)))


def test_a_video_with_sound_is_measured_from_its_file_and_drawn(tmp_path: Path) -> None:
    sound = render_sound(WORLD, FRAMES / FPS)
    path = video_of(tmp_path / "video.mp4", moving(), sound)
    zones = Zones(seams=(Seam(30, 34),), columns=(Border(48, 16),), rows=())
    found = evaluate_video(str(path), prompt=prompt(WORLD), zones=zones)
    values = figures(found)
    assert set(values) <= set(NAMES)
    assert (values["sync_matched"], values["sync_missed"], values["sync_extra"]) == (3, 0, 0)
    assert abs(float(values["sync_offset_ms"])) < 20
    assert all(values[f"world_{name}_right"] is True for name in ("colour", "shape", "direction"))
    assert (values["black"], values["frozen"]) == (0, 0)
    assert all(isinstance(value, bool | int | float) and math.isfinite(value) for value in values.values())
    wrong = figures(evaluate_video(str(path), prompt="a blue circle moving up"))
    assert not wrong["world_colour_right"]
    picture = draw_evaluation(found, "a title that is much too long for the width of a picture " * 5, "below")
    assert picture.size[0] == 1200
    shades = np.asarray(picture).reshape(-1, 3)
    assert len(np.unique(shades, axis=0)) > 100, "curves, bands and thumbnails"


def test_a_sound_that_is_late_makes_the_picture_early(tmp_path: Path) -> None:
    sound = render_sound(WORLD, FRAMES / FPS, shift=0.12)
    values = figures(evaluate_video(str(video_of(tmp_path / "video.mp4", moving(), sound))))
    assert values["sync_offset_ms"] == pytest.approx(-120, abs=25)
    assert "world_colour_right" not in values, "no prompt, nothing to hold it against"


def test_a_file_and_its_pixels_have_the_same_figures(tmp_path: Path) -> None:
    video = moving(37)
    from_file = figures(found_in(tmp_path, video))
    from_pixels = figures(evaluate(ArrayPictures(video, FPS)))
    assert from_file.keys() == from_pixels.keys()
    for name in ("drift_brightness", "drift_colour", "flicker", "black", "frozen"):
        assert from_file[name] == pytest.approx(from_pixels[name], abs=0.01)


def test_a_frozen_black_or_flickering_video_is_told_from_a_good_one(tmp_path: Path) -> None:
    good = moving(49)
    frozen, black, flickering = good.copy(), good.copy(), good.copy()
    frozen[20:44] = frozen[20]
    black[24:36] = 0.01
    flickering[::2] *= 0.96
    values = {
        name: figures(found_in(tmp_path, video))
        for name, video in (("good", good), ("frozen", frozen), ("black", black), ("flicker", flickering))
    }
    assert values["good"]["frozen"] == values["good"]["black"] == 0
    assert float(values["good"]["flicker"]) < 0.001
    assert values["frozen"]["frozen"] == pytest.approx(23 / 48, abs=0.05)
    assert values["frozen"]["frozen_seconds"] == pytest.approx(23 / FPS, abs=0.1)
    assert values["black"]["black"] == pytest.approx(12 / 49)
    assert float(values["flicker"]["flicker"]) > 0.004


def test_flicker_is_the_amplitude_of_what_alternates() -> None:
    assert flicker(0.5 + 0.1 * (-1.0) ** np.arange(50)) == pytest.approx(0.1)
    assert flicker(np.linspace(0, 1, 50)) == 0
    assert flicker(np.array([0.2, 0.2, 0.9, 0.6, 0.4, 0.3, 0.2, 0.2])) == 0, "a flash"
    assert flicker(np.array([0.2])) == 0


def test_values_that_are_no_numbers_are_counted_in_floats() -> None:
    video = moving(9).copy()
    video[3, 5, 7, 1], video[4, 0, 0, :2] = np.nan, np.inf
    found = evaluate(ArrayPictures(video, FPS))
    assert found.liveness.nonfinite == 3
    assert all(math.isfinite(value) for value in figures(found).values())


@pytest.mark.parametrize("seconds", [2, 4])
def test_drift_of_brightness_and_colour_is_found_and_motion_is_none(tmp_path: Path, seconds: int) -> None:
    frames = round(seconds * FPS)
    video = render(scene(5, seconds, "held_out"), frames, 48, 64, fps=FPS)
    along = np.linspace(0, 1, frames, dtype=np.float32)[:, None, None, None]
    tint = np.array([1.2, 1.0, 0.8], dtype=np.float32)
    steady, darker, redder = (
        evaluate(ArrayPictures(each, FPS)).drift
        for each in (video, video * (1 - 0.3 * along), video * (1 + (tint - 1) * along))
    )
    assert steady is not None
    assert darker is not None
    assert redder is not None
    assert max(abs(steady.brightness), steady.colour, abs(steady.slope)) < 0.03
    assert darker.brightness < -0.12
    assert darker.slope < -0.12
    assert darker.largest > 0.08
    assert redder.colour > 0.08 > darker.colour


def test_a_seam_of_tiles_is_found_and_a_blended_one_is_not() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.3, 0.6, (3, 13, 17, 3))
    video = np.kron(coarse, np.ones((1, 16, 16, 1)))[:, :192, :256].astype(np.float32)
    for _ in range(12):
        video = (
            np.roll(video, 1, 2) + np.roll(video, -1, 2) + np.roll(video, 1, 1) + np.roll(video, -1, 1)
        ) / 4
    columns, rows = (Border(100, 32),), (Border(120, 0),)
    even = measure_tiles(ArrayPictures(video, FPS), 3, columns, rows)
    hard = video.copy()
    hard[:, :, 100:] += 0.06
    ramp = np.clip((np.arange(256) - 84) / 32, 0, 1)[None, None, :, None].astype(np.float32)
    soft = measure_tiles(ArrayPictures(video + 0.06 * ramp, FPS), 3, columns, ())
    found = measure_tiles(ArrayPictures(hard, FPS), 3, columns, ())
    assert even is not None
    assert soft is not None
    assert found is not None
    assert even.num_borders == 2
    assert found.ratio > 2 * max(soft.ratio, even.ratio)
    assert even.ratio < 2
    assert measure_tiles(ArrayPictures(video, FPS), 3, (), ()) is None


def test_psnr_is_that_of_the_mean_squared_error_over_all_values() -> None:
    whole = np.full((4, 8, 8, 3), 0.5, np.float32)
    assert psnr(whole, whole) == math.inf
    assert psnr(whole + 0.01, whole) == pytest.approx(40, abs=0.01)
    pixels = np.full((4, 8, 8, 3), 100, np.uint8)
    assert psnr(pixels + np.uint8(1), pixels) == pytest.approx(20 * math.log10(255))
    with pytest.raises(ValueError, match="one shape"):
        psnr(whole, whole[:2])


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_video_of_hardly_any_frame_is_measured_as_far_as_it_goes(tmp_path: Path, frames: int) -> None:
    path = video_of(tmp_path / "video.mp4", moving(frames), render_sound(WORLD, frames / FPS))
    assert count_frames(str(path)) == frames
    found = evaluate_video(str(path), prompt=prompt(WORLD), zones=Zones(seams=(Seam(1, 1),)))
    assert figures(found)["black"] == 0
    assert draw_evaluation(found, "short").size[0] == 1200


def test_frames_come_at_their_times_and_no_larger_than_asked_for(tmp_path: Path) -> None:
    path = video_of(tmp_path / "video.mp4", moving(9))
    pictures = VideoPictures.open(str(path))
    assert (pictures.width, pictures.height, pictures.fps, pictures.has_sound) == (96, 64, 24.0, False)
    seen = list(pictures.frames(side=32, every=2))
    assert [each.seconds for each in seen] == pytest.approx([0, 2 / 24, 4 / 24, 6 / 24, 8 / 24], abs=1e-6)
    assert seen[0].rgb.shape == (32, 48, 3)
    error = np.abs(next(pictures.frames()).rgb - moving(1)[0])
    assert error.mean() < 0.01
    assert fitted(1920, 1080, 512) == (910, 512)
    assert fitted(96, 64, 512) == fitted(96, 64, None) == (96, 64)


def test_what_is_no_video_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(MediaError, match=name):
            evaluate_video(str(tmp_path / name))


def test_names_of_figures_are_unique_and_each_has_a_meaning() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(figure.meaning for figure in FIGURES)

"""Promise: a folder of videos is trained on at exact times: what is seen and heard belong together."""

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from videos import RATE, clicks, frames_of, number_of, numbered, write_video

from ltx_ray.errors import UserError
from ltx_ray.training.clips import Clip, ClipSource
from ltx_ray.training.folder_data import METADATA, SAMPLE_RATE, FolderClips
from ltx_ray.training.world import scene
from ltx_ray.training.world_folder import write_world_folder
from ltx_ray.training.world_picture import render
from ltx_ray.training.world_sound import render_sound

SIZE = {"height": 64, "width": 96}


def describe(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / METADATA).write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


def shown(clip: Clip) -> NDArray[np.uint8]:
    """[F, H, W, 3] in 0..255."""
    return ((clip.pixels.permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()


def numbers(clip: Clip) -> list[int]:
    return [number_of(frame) for frame in shown(clip)]


def folder_of(
    path: Path, frames: Iterable[tuple[int, NDArray[np.uint8]]], fps: float = 24, **how: Any
) -> Path:
    write_video(path, frames, fps, **how)
    return describe(path.parent, {"file_name": path.name, "prompt": "bars"})


def test_videos_are_cut_into_whole_clips_one_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    write_video(tmp_path / "a.mp4", frames_of(60))
    write_video(tmp_path / "more/b.mkv", frames_of(17), sound=clicks(17 / 24, [])[None])
    describe(
        tmp_path,
        {"file_name": "a.mp4", "prompt": "bars, long", "other": 1},
        {"file_name": "more/b.mkv", "prompt": None, "text": "bars, short"},
        {"file_name": "a.mp4", "caption": "bars from a second on", "start_s": 1},
    )
    clips: ClipSource = FolderClips(tmp_path, frames=17, **SIZE)
    assert [numbers(clip) for clip in (clips[0], clips[1], clips[2])] == [
        list(range(17)),
        list(range(17, 34)),
        list(range(34, 51)),
    ]
    assert numbers(clips[3]) == list(range(17))
    assert [numbers(clips[index])[0] for index in (4, 5)] == [24, 41]
    assert len(clips) == 6
    assert clips[-1].prompt == "bars from a second on"
    assert [clips[2].prompt, clips[3].prompt] == ["bars, long", "bars, short"]
    with pytest.raises(IndexError):
        clips[6]


def test_a_clip_has_the_shapes_ranges_and_rates_that_it_promises(tmp_path: Path) -> None:
    sound = np.stack([0.5 * np.ones(RATE, np.float32), np.zeros(RATE, np.float32)])
    clips = FolderClips(folder_of(tmp_path / "a.mkv", frames_of(24), sound=sound), frames=9, **SIZE)
    clip = pickle.loads(pickle.dumps(clips))[0]  # as a process that loads data gets it
    assert clip.pixels.dtype == torch.float32
    assert clip.pixels.shape == (3, 9, 64, 96)
    assert -1 <= clip.pixels.min() < -0.8
    assert 0.8 < clip.pixels.max() <= 1
    assert (clip.fps, clip.sample_rate) == (24.0, SAMPLE_RATE)
    assert clip.sound is not None
    assert clip.sound.dtype == torch.float32
    assert clip.sound.shape == (round(9 / 24 * SAMPLE_RATE),)
    assert clip.sound[1000:-1000].numpy() == pytest.approx(0.25, abs=0.01), "the mean of both channels"


def test_a_video_without_sound_has_none(tmp_path: Path) -> None:
    assert FolderClips(folder_of(tmp_path / "a.mp4", frames_of(9)), frames=9, **SIZE)[0].sound is None


@pytest.mark.parametrize(("name", "audio_codec"), [("a.mp4", "aac"), ("a.mkv", "flac"), ("a.ts", "aac")])
@pytest.mark.parametrize("late", [0, 13])
@pytest.mark.parametrize("start_s", [0, 0.11])
def test_a_flash_is_seen_in_the_frame_in_which_its_click_is_heard(
    tmp_path: Path, name: str, audio_codec: str, late: int, start_s: float
) -> None:
    """``late``: frames by which the picture begins after the sound."""
    flashes = (5, 21, 40, 58, 77)  # frames of the picture
    dark, bright = numbered(0), np.full((64, 96, 3), 235, np.uint8)
    frames = [(late + index, bright if index in flashes else dark) for index in range(85)]
    sound = clicks(5, [(late + index) / 24 for index in flashes])
    write_video(tmp_path / name, frames, 24, sound[None], audio_codec=audio_codec)
    describe(tmp_path, {"file_name": name, "prompt": "flashes", "start_s": start_s})
    clips = FolderClips(tmp_path, frames=17, **SIZE)
    found = 0
    for clip in (clips[index] for index in range(len(clips))):
        assert clip.sound is not None
        seen = [index for index, frame in enumerate(shown(clip)) if frame.mean() > 127]
        loud = np.flatnonzero(np.abs(clip.sound.numpy()) > 0.1)
        heard = loud[np.diff(loud, prepend=-SAMPLE_RATE) > SAMPLE_RATE // 10] / SAMPLE_RATE
        assert [index / 24 for index in seen] == pytest.approx(list(heard), abs=0.002)
        found += len(seen)
    assert found >= 4


def test_sound_that_is_kept_whole_is_cut_at_the_exact_sample(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 4 * RATE, dtype=np.float32)  # its level says the time
    folder_of(tmp_path / "a.mkv", frames_of(96), sound=ramp[None], audio_codec="flac")
    clips = FolderClips(tmp_path, frames=17, **SIZE)
    for index in range(len(clips)):
        sound = clips[index].sound
        assert sound is not None
        first = index * 17 / 24
        expected = (first + np.arange(len(sound)) / SAMPLE_RATE) / 4 * 1.8 - 0.9
        error = np.abs(sound.numpy() - expected)[200:-200].max() / 1.8 * 4
        assert error < 0.0005, f"clip {index} is off by {error} s"


def test_a_clip_at_another_rate_lasts_as_long_as_its_frames(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a.mp4", frames_of(48), sound=clicks(2, [1.0])[None])
    clips = FolderClips(folder, frames=9, fps=12, **SIZE)
    assert numbers(clips[1]) == [18 + 2 * index for index in range(9)]
    sound = clips[1].sound
    assert sound is not None
    assert len(sound) == 9 / 12 * SAMPLE_RATE
    assert int(np.flatnonzero(np.abs(sound.numpy()) > 0.1)[0]) / SAMPLE_RATE == pytest.approx(0.25, abs=0.002)


def test_the_fingerprint_names_the_files_the_captions_and_the_settings(tmp_path: Path) -> None:
    folder_of(tmp_path / "a.mp4", frames_of(34))

    def fingerprint(**settings: Any) -> str:
        return FolderClips(tmp_path, **{"frames": 9, **SIZE, **settings}).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    others = [fingerprint(frames=17), fingerprint(height=32), fingerprint(width=32), fingerprint(fps=12)]
    describe(tmp_path, {"file_name": "a.mp4", "prompt": "other words"})
    others.append(fingerprint())
    folder_of(tmp_path / "a.mp4", frames_of(35))
    others.append(fingerprint())
    assert len({first, *others}) == 7


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{'file_name': 1}", "line 2 .* must be a JSON object on one line"),
        ("[1]", "line 2 .* must be a JSON object"),
        ('{"prompt": "bars"}', "line 2 .* must have a file_name"),
        ('{"file_name": "a.mp4"}', "line 2 .* must have a prompt or text or caption"),
        ('{"file_name": "a.mp4", "prompt": " "}', "line 2 .* must have a prompt"),
        ('{"file_name": "a.mp4", "text": "\\ud800"}', "line 2 .* must have a prompt"),
        ('{"file_name": "b.mp4", "prompt": "bars"}', "line 2 .* must be a file of the folder, got 'b.mp4'"),
        ('{"file_name": "\\u0000", "prompt": "bars"}', "line 2 .* must be a file of the folder"),
        ('{"file_name": "../a.mp4", "prompt": "bars"}', "line 2 .* must be inside the folder"),
        ('{"file_name": "/a.mp4", "prompt": "bars"}', "line 2 .* must be inside the folder"),
        ('{"file_name": "a.mp4", "prompt": "bars", "start_s": "1"}', "start_s in line 2 .* got '1'"),
        ('{"file_name": "a.mp4", "prompt": "bars", "start_s": NaN}', "start_s in line 2 .* got nan"),
        (
            '{"file_name": "a.mp4", "prompt": "bars", "start_s": 1.4}',
            "a.mp4 must show at least one clip of 9",
        ),
        ('{"file_name": "text.mp4", "prompt": "bars"}', "text.mp4 must be a video"),
        ('{"file_name": "sound.wav", "prompt": "bars"}', "sound.wav must have a video stream, got audio"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_what_was_wanted(
    tmp_path: Path, line: str, said: str
) -> None:
    write_video(tmp_path / "a.mp4", frames_of(34))
    (tmp_path / "text.mp4").write_text("no video")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
        block.sample_rate = RATE
        container.mux(stream.encode(block))
    (tmp_path / METADATA).write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=said):
        FolderClips(tmp_path, frames=9, **SIZE)


def test_a_folder_without_metadata_or_lines_is_told_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must hold metadata.jsonl, got none in .*file_name"):
        FolderClips(tmp_path, frames=9, **SIZE)
    (tmp_path / METADATA).write_text("\n")
    with pytest.raises(UserError, match=r"at least one video, got no line"):
        FolderClips(tmp_path, frames=9, **SIZE)
    (tmp_path / METADATA).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"UTF-8"):
        FolderClips(tmp_path, frames=9, **SIZE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"frames": 16}, "frames must be a multiple of 8 and 1, got 16; take 9 or 17"),
        ({"frames": 0}, "got 0; take 1 or 9"),
        ({"height": 100}, "height must be a multiple of 32 pixels, got 100; take 96 or 128"),
        ({"width": 0}, "width must be a multiple of 32 pixels, got 0; take 32 or 64"),
        ({"fps": 0}, "fps must be above"),
    ],
)
def test_sizes_that_the_vae_cannot_take_are_refused(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    folder_of(tmp_path / "a.mp4", frames_of(34))
    with pytest.raises(UserError, match=said):
        FolderClips(tmp_path, **{"frames": 9, **SIZE, **settings})


def test_the_world_can_be_written_as_a_folder_and_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "world"
    write_world_folder(folder, [0, 7], 33, 64, 96, 24.0)
    rows = [json.loads(line) for line in (folder / METADATA).read_text().splitlines()]
    clips = FolderClips(folder, frames=33, **SIZE)
    assert len(clips) == len(rows) == 2
    for row, clip in zip(rows, (clips[0], clips[1]), strict=True):
        truth = scene(row["seed"], 33 / 24)
        for name in ("colour", "shape", "direction", "speed", "sound"):
            assert row[name] == getattr(truth, name)
        assert row["onsets"] == list(truth.onsets)
        assert clip.prompt == row["prompt"]
        error = np.mean((shown(clip) / 255 - render(truth, 33, 64, 96)) ** 2)
        assert -10 * np.log10(error) > 34, "the picture is the scene's"
        assert clip.sound is not None
        wave, heard = render_sound(truth, 33 / 24), clip.sound.numpy()
        agreement = [np.dot(wave[100:-100], np.roll(heard, lag)[100:-100]) for lag in range(-32, 33)]
        assert int(np.argmax(agreement)) == 32, "the sound is neither late nor early"
    with pytest.raises(UserError, match=r"without metadata.jsonl"):
        write_world_folder(folder, [1], 9, 64, 64)

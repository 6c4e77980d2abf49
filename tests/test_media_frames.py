"""Promise: a video's frames are those of the seconds asked for, upright, and as large as asked for."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from videos import clicks, frames_of, number_of, numbered, write_video

from ltx_ray.errors import MediaError
from ltx_ray.media.frames import probe_footage, read_frames

# Coders with frames that lean on later ones, also across keyframes.
OPEN_GOP = {"x264-params": "open-gop=1:keyint=24:min-keyint=24:bframes=5:b-adapt=0"}
CODERS = {
    "a.mp4": ("libx264", OPEN_GOP),
    "a.mkv": ("libx264", OPEN_GOP),
    "a.ts": ("libx264", OPEN_GOP),
    "a.flv": ("libx264", {"g": "24"}),
    "refreshed.mov": ("libx264", {"x264-params": "intra-refresh=1:keyint=24"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=error:keyint=24:open-gop=1:pools=1"}),
    "a.webm": ("libvpx-vp9", {"g": "24", "cpu-used": "8", "deadline": "realtime"}),
}


def read(
    path: Path, first: int, count: int, fps: int = 24, size: tuple[int, int] = (64, 96)
) -> NDArray[np.uint8]:
    """``count`` frames from the wanted frame ``first`` on; ``size`` is height and width."""
    height, width = size
    return read_frames(str(path), Fraction(first, fps), count, Fraction(fps), height=height, width=width)


def numbers(pixels: NDArray[np.uint8]) -> list[int]:
    return [number_of(frame) for frame in pixels]


@pytest.mark.parametrize("name", CODERS)
def test_a_stretch_is_what_a_decoding_from_the_beginning_shows(tmp_path: Path, name: str) -> None:
    codec, options = CODERS[name]
    path = write_video(tmp_path / name, frames_of(120), codec=codec, options=options)
    footage = probe_footage(str(path))
    assert (footage.begin, footage.has_sound) == (0, False)
    assert float(footage.end) == pytest.approx(5, abs=0.002)
    with av.open(str(path)) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for first in (0, 5, 23, 24, 25, 47, 50, 72, 95, 111):
        pixels = read(path, first, 9)
        assert numbers(pixels) == list(range(first, first + 9))
        difference = np.abs(pixels.astype(int) - np.stack(whole[first : first + 9]))
        assert difference.max() <= 4, "the same pictures, but for how their colours are rounded"


def test_what_is_far_before_a_stretch_is_not_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames_of(240), options={"g": "24"})
    before = read(path, 170, 17)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for packet in packets[1:96]:
        assert packet.pos is not None
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    assert np.array_equal(read(path, 170, 17), before)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (30, [0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 19, 20]),
        (12, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8]),
        (60, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37, 40]),
        (24000 / 1001, list(range(17))),
    ],
)
def test_other_frame_rates_show_the_frame_nearest_in_time(
    tmp_path: Path, fps: float, expected: list[int]
) -> None:
    path = write_video(tmp_path / "a.mp4", frames_of(round(fps)), fps)
    assert numbers(read(path, 0, 17)) == expected


def test_a_picture_that_is_held_for_long_is_not_replaced_early(tmp_path: Path) -> None:
    frames = [(time, numbered(time)) for time in (0, 1, 2, 14, 15, 16, 17)]
    path = write_video(tmp_path / "a.mkv", frames)
    assert numbers(read(path, 0, 17)) == [0, 1, *[2] * 12, 14, 15, 16]


def test_time_begins_where_the_sound_begins_if_that_is_earlier(tmp_path: Path) -> None:
    late = [(time + 12, picture) for time, picture in frames_of(24)]
    path = write_video(tmp_path / "a.mp4", late, sound=clicks(2, [])[None])
    footage = probe_footage(str(path))
    assert (footage.begin, footage.end, footage.has_sound) == (Fraction(1, 2), Fraction(3, 2), True)
    assert numbers(read(path, 10, 6)) == [0, 0, 0, 1, 2, 3], "before the first picture the first is shown"


def flag(height: int, width: int) -> NDArray[np.uint8]:
    """Red above, green in the middle half, blue below."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 4, :, 0] = picture[height // 4 : -height // 4, :, 1] = 230
    picture[-height // 4 :, :, 2] = 230
    return picture


def colours(path: Path, size: tuple[int, int]) -> str:
    """The strongest colour at the top, in the middle and at the bottom of a frame."""
    (picture,) = read(path, 4, 1, size=size)
    rows = (2, len(picture) // 2, len(picture) - 3)
    return "".join("RGB"[int(picture[row].mean(axis=0).argmax())] for row in rows)


def test_portrait_videos_are_cropped_to_their_middle(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [(index, flag(192, 96)) for index in range(9)])
    assert colours(path, (96, 96)) == "GGG"
    assert colours(path, (128, 64)) == "RGB"
    assert colours(path, (192, 32)) == "RGB"


def test_videos_of_a_camera_that_was_turned_are_upright(tmp_path: Path) -> None:
    lying = np.ascontiguousarray(np.rot90(flag(128, 64), -1))
    frames = [(index, lying) for index in range(9)]
    path = write_video(tmp_path / "a.mp4", frames, prepare=lambda stream: stream.set_display_rotation(90))
    assert colours(path, (128, 64)) == "RGB"


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    def wide(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    # Seen 128 x 128; taken for 64 wide, a square of it would lack the top and the bottom.
    path = write_video(tmp_path / "a.mp4", [(index, flag(128, 64)) for index in range(9)], prepare=wide)
    assert colours(path, (64, 64)) == "RGB"


def test_a_video_that_lost_its_end_is_named(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "a.mp4", frames_of(96), options={"g": "24"}, muxer={"movflags": "faststart"}
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert probe_footage(str(path)).end == 4, "the header says so"
    assert numbers(read(path, 0, 17)) == list(range(17))
    with pytest.raises(MediaError, match=r"a.mp4 must .*whole"):
        read(path, 79, 17)

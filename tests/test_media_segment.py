"""Promise: a segment holds the frames it was given, in BT.709, and the same frames give the same bytes."""

import os
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from ltx_ray.config import EncodingConfig
from ltx_ray.errors import MediaError, StorageError
from ltx_ray.media.probe import sha256_file
from ltx_ray.media.segment import SegmentWriter, frame_rate

ENCODING = EncodingConfig()


def noise(frames: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Coarse moving noise ``[T, H, W, 3]`` that gives the encoder something to do."""
    cells = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    still = cells.repeat(8, 0).repeat(8, 1)
    return np.stack([np.roll(still, 2 * index, axis=1) for index in range(frames)])


def write(
    path: Path, frames: NDArray[np.uint8], fps: float = 24, encoding: EncodingConfig = ENCODING
) -> None:
    _, height, width, _ = frames.shape
    with SegmentWriter(path, width, height, fps, 0, encoding) as writer:
        for frame in frames:
            writer.write(frame)


COLOURS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
    (200, 120, 40),
    (128, 128, 128),
]


def test_colours_survive_a_round_trip_through_bt709(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, np.stack([np.full((64, 96, 3), colour, np.uint8) for colour in COLOURS]))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        tags = context.colorspace, context.color_primaries, context.color_trc, context.color_range
        assert tags == (1, 1, 1, 1), "BT.709 matrix, primaries and transfer, limited range"
        assert context.pix_fmt == "yuv420p"
        seen, wrong = [], []
        for frame in container.decode(video=0):
            seen.append(frame.to_ndarray(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG"))
            wrong.append(
                frame.reformat(
                    format="rgb24", src_colorspace=Colorspace.ITU601, src_color_range=ColorRange.MPEG
                ).to_ndarray()
            )
    colours = np.array(COLOURS)[:, None, None]
    assert np.abs(np.stack(seen) - colours).max() <= 3
    assert np.abs(np.stack(wrong) - colours).max() > 20, "with another matrix the test would see it"


ENCODE = """
import sys
from pathlib import Path
import numpy as np
from ltx_ray.config import EncodingConfig
from ltx_ray.media.segment import SegmentWriter
frames = np.load(sys.argv[1])
with SegmentWriter(Path(sys.argv[2]), frames.shape[2], frames.shape[1], 24.0, 0, EncodingConfig()) as writer:
    for frame in frames:
        writer.write(frame)
"""


def test_what_lies_in_fresh_memory_does_not_reach_the_file(tmp_path: Path) -> None:
    """glibc fills what it gives out with another pattern in each process; x264 once read some of that."""
    np.save(tmp_path / "frames.npy", noise(40, 320, 176))
    digests = set()
    for pattern in ("0", "77", "200"):
        path = tmp_path / f"{pattern}.mp4"
        words = [sys.executable, "-c", ENCODE, str(tmp_path / "frames.npy"), str(path)]
        subprocess.run(words, check=True, env={**os.environ, "MALLOC_PERTURB_": pattern})
        digests.add(sha256_file(path))
    assert len(digests) == 1


def test_the_same_frames_give_the_same_bytes_whatever_the_process_did_before(tmp_path: Path) -> None:
    frames = noise(40)
    write(tmp_path / "a.mp4", frames)
    write(tmp_path / "other.mp4", frames[::-1], 30, EncodingConfig(crf=30))
    write(tmp_path / "b.mp4", frames)
    assert sha256_file(tmp_path / "a.mp4") == sha256_file(tmp_path / "b.mp4")
    assert sha256_file(tmp_path / "a.mp4") != sha256_file(tmp_path / "other.mp4")


def test_every_gop_is_closed_and_no_longer_than_the_config_says(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write(path, noise(60), 24, EncodingConfig(keyframe_seconds=1.0))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert keys[0] == 0
    assert max(np.diff([*keys, 60])) <= 24
    assert len(keys) >= 3
    for key in keys:
        earlier, later = packets[:key], packets[key:]
        assert all(packet.pts < packets[key].pts for packet in earlier)
        assert all(packet.pts >= packets[key].pts for packet in later)


def test_segments_of_any_length_carry_the_same_header(tmp_path: Path) -> None:
    headers = set()
    for count in (1, 2, 3, 25):
        write(tmp_path / "a.mp4", noise(count))
        with av.open(str(tmp_path / "a.mp4")) as container:
            headers.add(container.streams.video[0].codec_context.extradata)
            assert sum(1 for _ in container.decode(video=0)) == count
    assert len(headers) == 1


def test_rates_are_exact_fractions() -> None:
    assert frame_rate(24) == 24
    assert frame_rate(23.976) == Fraction(2997, 125)
    assert frame_rate(24000 / 1001) == Fraction(24000, 1001)
    assert frame_rate(30000 / 1001) == Fraction(30000, 1001)
    for fps in (0, -1, float("nan"), float("inf"), 1e-5, 1e6):
        with pytest.raises(MediaError, match="fps"):
            frame_rate(fps)


@pytest.mark.parametrize(
    "frame",
    [np.zeros((64, 96), np.uint8), np.zeros((96, 64, 3), np.uint8), np.zeros((64, 96, 3), np.float32)],
)
def test_a_frame_of_another_shape_or_type_is_refused_and_leaves_no_file(
    tmp_path: Path, frame: object
) -> None:
    path = tmp_path / "a.mp4"
    with SegmentWriter(path, 96, 64, 24, 129, ENCODING) as writer:
        writer.write(np.zeros((64, 96, 3), np.uint8))
        with pytest.raises(MediaError, match="frame 130"):
            writer.write(frame)


def test_a_block_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(ZeroDivisionError), SegmentWriter(path, 96, 64, 24, 0, ENCODING) as writer:
        writer.write(np.full((64, 96, 3), 1 // 0, np.uint8))
    assert not path.exists()


def test_what_h264_cannot_hold_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    for width, height in ((95, 64), (96, 63), (0, 64)):
        with pytest.raises(MediaError, match="even"):
            SegmentWriter(path, width, height, 24, 0, ENCODING)
    with pytest.raises(MediaError, match="preset 'no-such'"):
        SegmentWriter(path, 96, 64, 24, 0, EncodingConfig(preset="no-such"))
    with pytest.raises(MediaError, match="at least one frame"), SegmentWriter(path, 96, 64, 24, 0, ENCODING):
        pass
    assert not path.exists()


def test_a_disk_that_takes_no_more_is_a_storage_error(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk; it needs a process of its own."""
    script = f"""
import resource, numpy as np
from pathlib import Path
from ltx_ray.config import EncodingConfig
from ltx_ray.errors import StorageError
from ltx_ray.media.segment import SegmentWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
path = Path({str(tmp_path / "a.mp4")!r})
random = np.random.default_rng(0)
try:
    with SegmentWriter(path, 256, 256, 24, 0, EncodingConfig()) as writer:
        for _ in range(30):
            writer.write(random.integers(0, 256, (256, 256, 3)).astype(np.uint8))
except StorageError as error:
    assert error.retryable and str(path) in str(error)
    assert not path.exists()
    raise SystemExit(75)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20_000
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no"):
        SegmentWriter(tmp_path / "no" / "a.mp4", 96, 64, 24, 0, ENCODING)


def test_memory_does_not_grow_with_frames_or_segments(tmp_path: Path) -> None:
    encoding = EncodingConfig(preset="ultrafast")
    still = noise(1, 1280, 720)[0]
    process = psutil.Process()

    def resident_after(segments: int, frames: int) -> int:
        for _ in range(segments):
            with SegmentWriter(tmp_path / "a.mp4", 1280, 720, 24, 0, encoding) as writer:
                for index in range(frames):
                    writer.write(np.roll(still, index * 4, axis=1))
        return process.memory_info().rss

    first = resident_after(1, 12)
    # Kept frames would be 2.8 MB each, 1.4 MB as YUV; the encoder's pages that glibc keeps came to 50 MB.
    assert resident_after(10, 12) - first < 30e6
    assert resident_after(1, 150) - first < 30e6

"""Promise: what is said of a finished file was counted in the file; a broken file is never called whole."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from ltx_ray.config import EncodingConfig
from ltx_ray.errors import MediaError
from ltx_ray.media.join import join_segments
from ltx_ray.media.probe import VideoFacts, probe_video, sha256_file
from ltx_ray.media.segment import SegmentWriter


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two seconds of 64x32 at 12 fps, with sound."""
    encoding = EncodingConfig()
    random = np.random.default_rng(0)
    with SegmentWriter(tmp_path / "segment.mp4", 64, 32, 12, 0, encoding) as writer:
        for _ in range(24):
            writer.write(random.integers(0, 256, (32, 64, 3)).astype(np.uint8))
    sound = random.uniform(-0.5, 0.5, (2, 96_000)).astype(np.float32)
    join_segments([tmp_path / "segment.mp4"], [24], tmp_path / "video.mp4", 12, sound, encoding)
    return tmp_path / "video.mp4"


def test_facts_are_those_of_the_file(video: Path) -> None:
    assert probe_video(video) == VideoFacts(
        num_frames=24,
        fps=12.0,
        width=64,
        height=32,
        seconds=2.0,
        audio_seconds=2.0,
        bytes=len(video.read_bytes()),
    )


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.6, 0.99, -1, -20])
def test_a_truncated_video_is_never_called_whole(video: Path, kept: float) -> None:
    """Its index stands in front, so that players open it, and run into the missing end."""
    data = video.read_bytes()
    size = int(kept) if kept < 0 else int(len(data) * kept)
    video.write_bytes(data[:size])
    with pytest.raises(MediaError, match=str(video)):
        probe_video(video)


def test_a_segment_without_its_index_is_never_called_whole(video: Path) -> None:
    segment = video.parent / "segment.mp4"
    segment.write_bytes(segment.read_bytes()[:-200])
    with pytest.raises(MediaError, match=str(segment)):
        probe_video(segment)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(1).bytes(50_000))
    (tmp_path / "text.mp4").write_text("not a video")
    for name in ("missing.mp4", "noise.mp4", "text.mp4"):
        with pytest.raises(MediaError, match=name):
            probe_video(tmp_path / name)
    with pytest.raises(MediaError, match=str(tmp_path)):
        probe_video(tmp_path)


def test_digest_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()

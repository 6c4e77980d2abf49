"""Promise: segments and sound make one MP4 of exactly their frames, in order, evenly timed, reproducible."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ltx_ray.config import EncodingConfig
from ltx_ray.errors import ConfigError, MediaError, StorageError
from ltx_ray.media.join import AAC_FRAME, join_segments
from ltx_ray.media.probe import probe_video, sha256_file
from ltx_ray.media.segment import SegmentWriter, frame_rate

ENCODING = EncodingConfig()
LENGTHS = (1, 7, 50)
WIDTH, HEIGHT = 96, 64


def numbered(index: int) -> NDArray[np.uint8]:
    """A frame that carries its number: eight bars, white for one and black for zero."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for bit in range(8):
        if index >> bit & 1:
            frame[:, bit * 12 : bit * 12 + 12] = 255
    return frame


def number_of(frame: NDArray[np.uint8]) -> int:
    return sum(1 << bit for bit in range(8) if frame[:, bit * 12 + 6].mean() > 127)


def write_segments(
    folder: Path, lengths: tuple[int, ...], fps: float, encoding: EncodingConfig = ENCODING
) -> list[Path]:
    paths, index = [], 0
    for part, length in enumerate(lengths):
        paths.append(folder / f"segment-{part}.mp4")
        with SegmentWriter(paths[-1], WIDTH, HEIGHT, fps, index, encoding) as writer:
            for _ in range(length):
                writer.write(numbered(index))
                index += 1
    return paths


def tone(frames: int, fps: float, channels: int = 2, rate: int = 48_000) -> NDArray[np.float32]:
    samples = round(frames / frame_rate(fps) * rate)
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def decoded_sound(path: Path) -> NDArray[np.float32]:
    with av.open(str(path)) as container:
        return np.concatenate([np.asarray(f.to_ndarray()) for f in container.decode(audio=0)], axis=1)


def atoms(path: Path) -> list[str]:
    """Names of the file's top-level boxes (ISO/IEC 14496-12: 4 bytes size, 4 bytes name)."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return names


@pytest.mark.parametrize("fps", [24, 23.976, 24000 / 1001, 30, 12.5])
@pytest.mark.parametrize("lengths", [LENGTHS, (50, 7, 1), (2, 2, 1, 3)])
def test_frames_are_all_there_in_order_and_evenly_timed(
    tmp_path: Path, fps: float, lengths: tuple[int, ...]
) -> None:
    segments = write_segments(tmp_path, lengths, fps)
    output = tmp_path / "out.mp4"
    total = sum(lengths)
    join_segments(segments, lengths, output, fps, tone(total, fps), ENCODING)
    with av.open(str(output)) as container:
        shown = [
            (number_of(frame.to_ndarray(format="rgb24")), frame.pts * frame.time_base)
            for frame in container.decode(video=0)
        ]
    assert shown == [(index, index / frame_rate(fps)) for index in range(total)]
    with av.open(str(output)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    decoding = [packet.dts for packet in packets]
    assert all(later > earlier for earlier, later in itertools.pairwise(decoding))
    assert all(packet.dts <= packet.pts for packet in packets)
    facts = probe_video(output)
    assert facts.num_frames == total
    assert facts.fps == pytest.approx(fps, rel=1e-9)
    assert facts.seconds == pytest.approx(total / fps, abs=1e-9)


def test_packets_are_copied_not_encoded_again(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, LENGTHS, 24)
    join_segments(segments, LENGTHS, tmp_path / "out.mp4", 24, tone(58, 24), ENCODING)

    def payloads(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(video=0) if packet.size]

    assert payloads(tmp_path / "out.mp4") == [data for path in segments for data in payloads(path)]
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = context.colorspace, context.color_primaries, context.color_trc, context.color_range
    assert tags == (1, 1, 1, 1)


@pytest.mark.parametrize("fps", [24, 23.976, 30])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_as_long_as_the_picture_and_where_it_belongs(
    tmp_path: Path, fps: float, channels: int
) -> None:
    sound = tone(58, fps, channels)
    segments = write_segments(tmp_path, LENGTHS, fps)
    join_segments(segments, LENGTHS, tmp_path / "out.mp4", fps, sound, ENCODING)
    facts = probe_video(tmp_path / "out.mp4")
    assert facts.audio_seconds == pytest.approx(facts.seconds, abs=1 / 48_000)
    decoded = decoded_sound(tmp_path / "out.mp4")
    assert decoded.shape[0] == channels
    assert 0 <= decoded.shape[1] - sound.shape[1] < AAC_FRAME
    inner = slice(4_000, sound.shape[1] - 4_000)
    assert np.abs(decoded[:, inner] - sound[:, inner]).max() < 0.02
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].start_time == 0
        assert container.streams.video[0].start_time == 0


def test_a_single_frame_with_sound_is_whole(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, (1,), 24)
    join_segments(segments, (1,), tmp_path / "out.mp4", 24, tone(1, 24), ENCODING)
    facts = probe_video(tmp_path / "out.mp4")
    assert (facts.num_frames, facts.seconds) == (1, 1 / 24)
    assert facts.audio_seconds == pytest.approx(1 / 24, abs=1e-9)


def test_the_index_stands_before_the_data(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, LENGTHS, 24)
    join_segments(segments, LENGTHS, tmp_path / "out.mp4", 24, tone(58, 24), ENCODING)
    names = atoms(tmp_path / "out.mp4")
    assert names[0] == "ftyp"
    assert names.index("moov") < names.index("mdat")


def test_picture_and_sound_lie_side_by_side_in_the_file(tmp_path: Path) -> None:
    """A player that streams the file must never need to look more than a second ahead."""
    lengths = (120, 120)
    segments = write_segments(tmp_path, lengths, 24)
    join_segments(segments, lengths, tmp_path / "out.mp4", 24, tone(240, 24), ENCODING)
    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = sorted(
            (p.pos, float(p.dts * p.time_base), p.stream.type) for p in container.demux() if p.size
        )
    latest = {"video": 0.0, "audio": 0.0}
    for _, second, kind in packets:
        latest[kind] = second
        if second > 0.5:
            assert abs(latest["video"] - latest["audio"]) < 1.0


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, LENGTHS, 24)
    sound = tone(58, 24)
    for name in ("a.mp4", "b.mp4"):
        join_segments(segments, LENGTHS, tmp_path / name, 24, sound, ENCODING)
    join_segments(segments, LENGTHS, tmp_path / "c.mp4", 24, -sound, ENCODING)
    digests = [sha256_file(tmp_path / f"{name}.mp4") for name in "abc"]
    assert digests[0] == digests[1] != digests[2]
    data = (tmp_path / "a.mp4").read_bytes()
    assert b"Lavf" not in data
    assert b"Lavc" not in data


def test_without_sound_there_is_no_audio_track(tmp_path: Path) -> None:
    segments = write_segments(tmp_path, LENGTHS, 24)
    join_segments(segments, LENGTHS, tmp_path / "out.mp4", 24, None, ENCODING)
    facts = probe_video(tmp_path / "out.mp4")
    assert facts.audio_seconds is None
    assert facts.seconds == pytest.approx(58 / 24, abs=1e-9)


@pytest.mark.parametrize("difference", [-1_000, -1, 1, 1_000])
def test_sound_that_rounding_made_longer_or_shorter_is_fitted(tmp_path: Path, difference: int) -> None:
    segments = write_segments(tmp_path, (24,), 24)
    sound = np.full((1, 48_000 + difference), 0.25, np.float32)
    join_segments(segments, (24,), tmp_path / "out.mp4", 24, sound, ENCODING)
    assert probe_video(tmp_path / "out.mp4").audio_seconds == 1.0


def test_what_does_not_fit_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    segments = write_segments(tmp_path, LENGTHS, 24)
    (tmp_path / "other").mkdir()
    other = write_segments(tmp_path / "other", (7,), 24, EncodingConfig(preset="medium"))[0]
    whole = segments[2].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    cases: list[tuple[list[Path], list[int], str]] = [
        ([], [], "at least one segment"),
        (segments, [1, 7], "one length for each"),
        (segments, [1, 8, 50], "exactly 8 frames, got 7"),
        ([segments[0], other], [1, 7], "another H.264 header"),
        ([tmp_path / "missing.mp4"], [1], "no such file"),
        ([tmp_path / "cut.mp4"], [50], "cut.mp4"),
        ([tmp_path / "noise.mp4"], [50], "noise.mp4"),
    ]
    for paths, lengths, message in cases:
        with pytest.raises(MediaError, match=message):
            join_segments(paths, lengths, output, 24, None, ENCODING)
        assert not output.exists()
    with pytest.raises(MediaError, match="whole frames at 25"):
        join_segments(segments, LENGTHS, output, 25, None, ENCODING)
    for sound in (np.zeros((2, 48_000), np.float32), np.zeros(116_000, np.float32), np.zeros((1, 116_000))):
        with pytest.raises(MediaError, match="sound must be"):
            join_segments(segments, LENGTHS, output, 24, sound, ENCODING)  # type: ignore[arg-type]
    odd = EncodingConfig(audio_rate=10_000)
    with pytest.raises(ConfigError, match="audio_rate"):
        join_segments(segments, LENGTHS, output, 24, tone(58, 24, rate=10_000), odd)
    assert not output.exists()
    with pytest.raises(StorageError, match="could not write"):
        join_segments(segments, LENGTHS, tmp_path / "no" / "out.mp4", 24, None, ENCODING)


def test_timestamps_stay_exact_over_a_long_video(tmp_path: Path) -> None:
    """At 29.97 frames per second milliseconds would drift; 20 segments of 15 frames do not."""
    fps = 30000 / 1001
    lengths = (15,) * 20
    segments = write_segments(tmp_path, lengths, fps)
    join_segments(segments, lengths, tmp_path / "out.mp4", fps, tone(300, fps), ENCODING)
    with av.open(str(tmp_path / "out.mp4")) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [index * Fraction(1001, 30000) for index in range(300)]

"""Promise: a shot's sound is exactly the samples that were asked for, from the second asked for."""

import math
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from ltx_ray.errors import MediaError
from ltx_ray.media.audio import probe_audio, read_audio

CLICK_S = 1.5
SECONDS = 3.0


def hum_with_click(rate: int) -> NDArray[np.float32]:
    """Three seconds of a quiet hum, and a single loud sample at 1.5 s."""
    times = np.arange(round(SECONDS * rate)) / rate
    sound = 0.05 * np.sin(2 * np.pi * 220 * times)
    sound[round(CLICK_S * rate)] = 0.9
    return sound.astype(np.float32)


def write_wav(path: Path, channels: list[NDArray[np.float32]], rate: int) -> str:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.stack(channels, 1) * 32767).round().astype("<i2").tobytes())
    return str(path)


def encode(
    path: Path, sound: NDArray[np.float32], rate: int, codec: str, layout: str, video: str = ""
) -> str:
    """Write ``[channels, samples]``; ``video`` adds a picture stream: "film" (starts at 0) or "cover"."""
    with av.open(str(path), "w") as container:
        if video:
            picture = container.add_stream("mjpeg" if video == "cover" else "libx264", rate=24)
            picture.width, picture.height = 64, 64
            picture.pix_fmt = "yuvj420p" if video == "cover" else "yuv420p"
            if video == "cover":
                picture.disposition = Disposition.attached_pic
        stream = container.add_stream(codec, rate=rate, layout=layout)
        for index in range({"cover": 1, "film": 72, "": 0}[video]):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(picture.encode(frame))
        if video:
            container.mux(picture.encode(None))
        for start in range(0, sound.shape[1], 1024):
            block = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(sound[:, start : start + 1024]), format="fltp", layout=layout
            )
            block.sample_rate, block.pts, block.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return str(path)


def click_at(sound: NDArray[np.float32], rate: int) -> float:
    return float(np.abs(sound[0]).argmax() / rate)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("wanted_rate", [16_000, 48_000])
def test_cut_has_exactly_the_samples_asked_for_and_begins_at_start_s(
    tmp_path: Path, rate: int, num_channels: int, wanted_rate: int
) -> None:
    url = write_wav(tmp_path / "a.wav", [hum_with_click(rate)] * num_channels, rate)
    for start_s, seconds in [(0.0, 3.0), (0.7, 1.234_567), (1.4999, 0.5)]:
        sound = read_audio(url, start_s, seconds, wanted_rate)
        assert sound.dtype == np.float32
        assert sound.shape == (num_channels, round(seconds * wanted_rate))
        # One sample of the coarser rate is all that may be lost.
        tolerance = 1 / min(rate, wanted_rate)
        assert start_s + click_at(sound, wanted_rate) == pytest.approx(CLICK_S, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "video"),
    [
        ("a.flac", "flac", 44_100, ""),
        ("a.mp3", "libmp3lame", 44_100, ""),
        ("cover.mp3", "libmp3lame", 44_100, "cover"),
        ("a.m4a", "aac", 44_100, ""),
        ("a.opus", "libopus", 48_000, ""),
        ("film.mp4", "aac", 48_000, "film"),
        ("a.mkv", "flac", 44_100, ""),
    ],
)
def test_priming_of_codecs_and_pictures_beside_the_sound_do_not_shift_it(
    tmp_path: Path, name: str, codec: str, rate: int, video: str
) -> None:
    sound = np.stack([hum_with_click(rate)] * 2)
    url = encode(tmp_path / name, sound, rate, codec, "stereo", video)
    for start_s in (0.0, 1.3):
        cut = read_audio(url, start_s, 1.6, 48_000)
        assert cut.shape == (2, 76_800)
        assert start_s + click_at(cut, 48_000) == pytest.approx(CLICK_S, abs=0.002)


def test_skipping_ahead_finds_the_same_samples_as_decoding_from_the_start(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000 * 4).astype(np.float32)
    url = write_wav(tmp_path / "a.wav", [noise], 48_000)
    whole = read_audio(url, 0, 4, 48_000)
    assert np.abs(whole[0] - noise).max() < 1e-4
    assert np.array_equal(read_audio(url, 2.5, 1.25, 48_000), whole[:, 120_000:180_000])


def test_resampling_keeps_the_phase(tmp_path: Path) -> None:
    times = np.arange(44_100 * 3) / 44_100
    url = write_wav(tmp_path / "a.wav", [(0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)], 44_100)
    cut = read_audio(url, 1.25, 1, 48_000)[0]
    expected = 0.5 * np.sin(2 * np.pi * 440 * (1.25 + np.arange(48_000) / 48_000))
    # Half a sample of 48 kHz at 440 Hz is 0.029 of the phase, 0.015 of this amplitude.
    assert np.abs(cut - expected).max() < 0.016


def test_what_lies_beyond_the_end_is_silence(tmp_path: Path) -> None:
    url = write_wav(tmp_path / "a.wav", [np.full(8_000, 0.5, np.float32)], 8_000)
    sound = read_audio(url, 0.75, 1.0, 8_000)
    assert sound.shape == (1, 8_000)
    assert sound[0, :1_990].min() > 0.49
    assert not sound[0, 2_000:].any()
    assert not read_audio(url, 100, 0.5, 8_000).any()


def test_surround_sound_becomes_stereo_without_exceeding_full_scale(tmp_path: Path) -> None:
    loud = np.full((6, 22_050), 0.99, np.float32)
    url = encode(tmp_path / "loud.wav", loud, 22_050, "pcm_s16le", "5.1")
    sound = read_audio(url, 0.2, 0.5, 22_050)
    assert sound.shape == (2, 11_025)
    assert 0.9 < sound.max() <= 1.0

    left = np.zeros((6, 22_050), np.float32)
    left[0] = 0.5
    sound = read_audio(encode(tmp_path / "l.wav", left, 22_050, "pcm_s16le", "5.1"), 0.2, 0.5, 22_050)
    assert sound[0].min() > 0.1
    assert not sound[1].any()


def test_late_audio_of_a_film_stays_late(tmp_path: Path) -> None:
    """The file begins with its pictures; its sound comes a second later, and is silence until then."""
    path = tmp_path / "late.mp4"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=24)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        stream = container.add_stream("aac", rate=48_000, layout="mono")
        for index in range(72):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for start in range(0, 48_000, 1024):
            block = av.AudioFrame.from_ndarray(
                np.full((1, 1024), 0.5, np.float32), format="fltp", layout="mono"
            )
            block.sample_rate, block.pts, block.time_base = 48_000, 48_000 + start, Fraction(1, 48_000)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    sound = read_audio(str(path), 0, 2, 48_000)[0]
    assert np.abs(sound[: 48_000 - 1_100]).max() < 0.01
    assert np.median(sound[48_000 + 1_100 : 90_000]) > 0.4


def test_probe_tells_length_rate_and_channels(tmp_path: Path) -> None:
    url = write_wav(tmp_path / "a.wav", [hum_with_click(22_050)] * 2, 22_050)
    facts = probe_audio(url)
    assert (facts.seconds, facts.rate, facts.channels) == (pytest.approx(3.0), 22_050, 2)
    assert probe_audio(f"file://{url}") == facts


def test_each_kind_of_wrong_file_has_its_own_message(tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(np.random.default_rng(0).bytes(100_000))
    (tmp_path / "empty.wav").write_bytes(b"")
    sound = hum_with_click(48_000)[None]
    film = Path(encode(tmp_path / "film.mp4", sound, 48_000, "aac", "mono", "film")).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(film[: len(film) // 2])
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        picture = container.add_stream("libx264", rate=24)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        container.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(picture.encode(None))
    cases = {
        "missing.wav": "no such file",
        "": "folder",
        "noise.wav": "cannot be read as such",
        "empty.wav": "cannot be read as such",
        "cut.mp4": "cannot be read as such",
        "mute.mp4": "must have an audio stream, got video",
    }
    for name, message in cases.items():
        url = str(tmp_path / name)
        with pytest.raises(MediaError, match=message):
            probe_audio(url)
        with pytest.raises(MediaError, match=message):
            read_audio(url, 0, 1, 16_000)
    with pytest.raises(MediaError, match="Protocol not known"):
        probe_audio("nowhere://bucket/a.wav")


@pytest.mark.parametrize(
    ("start_s", "seconds", "rate"),
    [(-1, 1, 48_000), (0, float("nan"), 48_000), (math.inf, 1, 48_000), (0, 1, 0)],
)
def test_impossible_cuts_are_refused(tmp_path: Path, start_s: float, seconds: float, rate: int) -> None:
    url = write_wav(tmp_path / "a.wav", [hum_with_click(8_000)], 8_000)
    with pytest.raises(MediaError, match="finite start_s"):
        read_audio(url, start_s, seconds, rate)


def test_samples_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    sound = hum_with_click(48_000)[None]
    sound[0, 1_000] = np.nan
    url = encode(tmp_path / "nan.wav", sound, 48_000, "pcm_f32le", "mono")
    with pytest.raises(MediaError, match="NaN"):
        read_audio(url, 0, 1, 48_000)
    assert read_audio(url, 1, 1, 48_000).shape == (1, 48_000)


def test_a_playlist_cannot_make_the_farm_read_other_files(tmp_path: Path) -> None:
    secret = encode(tmp_path / "secret.ts", hum_with_click(48_000)[None], 48_000, "aac", "mono")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:3,\n{secret}\n#EXT-X-ENDLIST\n")
    with av.open(playlist.open("rb")) as container:
        assert container.streams.audio, "unguarded, FFmpeg follows the playlist"
    with pytest.raises(MediaError):
        probe_audio(str(playlist))

"""Whatever bytes come as a manifest, an image or a sound: they are read, or refused in a line."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_bytes import coded, flac, floats, picture, wav

from ltx_ray.config import InputsConfig, RenderConfig
from ltx_ray.errors import LtxRayError, ManifestError, MediaError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.read import read_rows
from ltx_ray.manifest.row import COLUMNS, RowError
from ltx_ray.manifest.shot import parse_row
from ltx_ray.media.access import Access
from ltx_ray.media.audio import probe_audio, read_audio
from ltx_ray.media.image import probe_image, read_image
from ltx_ray.visible import visible

Refused = TypeVar("Refused", bound=LtxRayError)
EXAMPLES = int(os.environ.get("LTX_RAY_EXAMPLES", "60"))  # of each kind; more of them find more
fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of broken tags

IMAGES = {
    "PNG": picture,
    "JPEG": lambda: picture("JPEG"),
    "MPO": lambda: picture("MPO"),
    "WEBP": lambda: picture("WEBP"),
    "GIF": lambda: picture("GIF"),
    "BMP": lambda: picture("BMP"),
    "TIFF": lambda: picture("TIFF"),
    "TIFF, packed": lambda: picture("TIFF", compression="tiff_lzw"),
    "AVIF": lambda: picture("AVIF"),
    "JPEG2000": lambda: picture("JPEG2000"),
    "PPM": lambda: picture("PPM"),
    "TGA": lambda: picture("TGA"),
    "ICO": lambda: picture("ICO"),
}
SOUNDS = {
    "wav": wav,
    "float": lambda: floats(0.5),
    "block": lambda: flac(8_000),
    "mp3": lambda: coded("mp3", "libmp3lame", seconds=0.2),
    "ogg": lambda: coded("ogg", "libopus", seconds=0.2),
    "flac": lambda: coded("flac", "flac", seconds=0.2),
    "mp4": lambda: coded("mp4", "aac", seconds=0.2),
    "adts": lambda: coded("adts", "aac", seconds=0.2),
    "matroska": lambda: coded("matroska", "flac", seconds=0.2),
    "mpegts": lambda: coded("mpegts", "mp2", seconds=0.2),
    "avi": lambda: coded("avi", "libmp3lame", seconds=0.2),
    "aiff": lambda: coded("aiff", "pcm_s16be", seconds=0.2),
    "au": lambda: coded("au", "pcm_s16be", seconds=0.2),
    "w64": lambda: coded("w64", "pcm_s16le", seconds=0.2),
    "tta": lambda: coded("tta", "tta", seconds=0.2),
    "wv": lambda: coded("wv", "wavpack", seconds=0.2),
}


@cache
def whole(kind: str) -> bytes:
    return {**IMAGES, **SOUNDS}[kind]()


@st.composite
def damaged(draw: st.DrawFn, kinds: tuple[str, ...]) -> bytes:
    """A real file with some of its bytes changed, most of them near its beginning, perhaps cut or grown."""
    data = bytearray(whole(draw(st.sampled_from(kinds))))
    for _ in range(draw(st.integers(0, 8))):
        last = draw(st.sampled_from([16, 64, 256, len(data)]))
        at = draw(st.integers(0, min(last, len(data)) - 1))
        new = draw(st.sampled_from([b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\0\0\0\0"]))
        data[at : at + len(new)] = new if draw(st.booleans()) else draw(st.binary(min_size=1, max_size=4))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data) + (draw(st.binary(max_size=20)) if draw(st.booleans()) else b"")


def refusal(kind: type[Refused], read: Callable[[], Any]) -> Refused | None:
    """Why ``read`` refuses, which must be an error of that kind, in one line; None: it does not."""
    try:
        read()
    except kind as error:
        return error
    return None


def told(error: LtxRayError) -> str:
    """The message of ``error``: one line, that steers no terminal, and is the same in every run."""
    text = str(error)
    assert visible(text) == text
    assert " at 0x" not in text
    return text


def check_reading(path: Path, data: bytes, reads: tuple[Callable[[str, Access], Any], ...]) -> None:
    """Each of ``reads`` succeeds, or is refused with one line that names the file."""
    path.write_bytes(data)
    access = Access.of_rows(str(path.parent), InputsConfig(decode_seconds=20))
    for read in reads:
        if error := refusal(MediaError, lambda read=read: read(str(path), access)):
            assert str(path) in told(error)


IMAGE_READS = (probe_image, lambda url, access: read_image(url, 32, 32, access))
SOUND_READS = (probe_audio, lambda url, access: read_audio(url, 0.05, 0.2, 16_000, access))


@fuzzed
@given(damaged(tuple(IMAGES)) | st.binary(max_size=300))
def test_any_bytes_are_an_image_or_refused(tmp_path: Path, data: bytes) -> None:
    check_reading(tmp_path / "x.png", data, IMAGE_READS)


@fuzzed
@given(damaged(tuple(SOUNDS)) | st.binary(max_size=300))
def test_any_bytes_are_a_sound_or_refused(tmp_path: Path, data: bytes) -> None:
    check_reading(tmp_path / "x.wav", data, SOUND_READS)


TEXT = st.text(st.characters(), max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PLACES = st.sampled_from(
    ["../a.wav", "/etc/passwd", "a://b", "https://[::1", "https://1", "a::b", ".", "\x9b"]
)


@fuzzed
@given(st.dictionaries(st.sampled_from(COLUMNS), JSON | PLACES, min_size=1), st.integers(1, 10**9))
def test_any_row_is_a_shot_or_refused_in_a_line_that_names_its_columns(
    row: dict[str, Any], number: int
) -> None:
    raw = RawRow(number, {"prompt": "a cat", **row})
    if error := refusal(RowError, lambda: parse_row(raw, RenderConfig(), "/set")):
        assert told(error).startswith(f"row {number}: ")
        assert error.fields
        assert all(name in told(error) for name in error.fields)


LINE = st.sampled_from(
    [b'{"prompt": "a"}', b"prompt,seed", b"a,1", b'"', b"[", b"{", b"\0", b"\xff", b"\xef\xbb\xbf", b"PAR1"]
)


@fuzzed
@given(
    st.lists(LINE | st.binary(max_size=20), max_size=8).map(b"\n".join),
    st.sampled_from([".jsonl", ".csv", ".tsv", ".parquet", ".jsonl.gz", ".csv.zst"]),
)
def test_any_bytes_are_a_manifest_or_refused_by_its_name(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"shots{suffix}"
    path.write_bytes(data)
    rows: list[RawRow] = []
    if error := refusal(ManifestError, lambda: rows.extend(read_rows(str(path)))):
        assert str(path) in told(error)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    for row in rows:
        row.as_json().encode()
        assert row.error is None or visible(row.error) == row.error

"""The corpus of bad input: rows whose files are wrong. Each case writes its own file beside the manifest."""

import gzip
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from bad_rows import FILE, RIGHT_TO_LEFT, SMALL, Bad
from media_bytes import coded, cut, flac, flipped, floats, picture, png, wav

NOT_SOUND = "must be an audio file, or a video with sound, got data that cannot be read as such"
NOT_IMAGE = "must be a whole image such as PNG or JPEG, got data of another kind"
BROKEN_IMAGE = "must be a whole image such as PNG or JPEG, got: "
OUTSIDE = "a local file must lie in the manifest's folder"
SECRET = "secret.wav"  # beside the manifest's folder

# Titles in whatever encoding; a link that stays inside: rows that name these are rendered.
TITLE = b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"\xe4\xff\xfe\0"
GOOD_FILES: dict[str, Callable[[], bytes]] = {
    "title.wav": lambda: wav(more=TITLE),
    "two pictures.jpg": lambda: picture("MPO"),
}
GOOD_WITH_FILES = [
    {**SMALL, "id": "sound-with-a-title", "audio": "title.wav"},
    {**SMALL, "id": "from-an-image", "image": "two pictures.jpg"},
]


def _bytes(name: str, data: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda folder: _write(folder / name, data())


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _files(
    column: str, cases: dict[str, tuple[Callable[[], bytes], str]], *, validated: bool = True
) -> list[Bad]:
    return [
        Bad(f"{column} {name}", {column: name}, words, _bytes(name, data), validated=validated)
        for name, (data, words) in cases.items()
    ]


def _lost() -> bytes:
    """A Wave64 file whose chunk of samples ends at no place that a file can have."""
    data = coded("w64", "pcm_s16le", seconds=0.1)
    return data[:95] + b"\xff" * 8 + data[103:]


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(".", os.O_RDONLY)
        try:
            os.chdir(folder)  # a socket's path must be short
            made.bind("socket.wav")
        finally:
            os.fchdir(here)
            os.close(here)


SOUNDS = _files(
    "audio",
    {
        "empty.wav": (lambda: b"", NOT_SOUND),
        "text.wav": (lambda: b"a beep, then a longer beep\n" * 40, NOT_SOUND),
        "html.mp3": (lambda: b"<!DOCTYPE html><title>404 Not Found</title>" * 9, NOT_SOUND),
        "zeros.wav": (lambda: bytes(10_000), NOT_SOUND),
        "picture.wav": (picture, NOT_SOUND),
        "pickle.wav": (lambda: pickle.dumps({"a": [1.0] * 999}), NOT_SOUND),
        "packed.wav": (lambda: gzip.compress(wav()), NOT_SOUND),
        "cut.mp3": (lambda: cut(coded("mp3", "libmp3lame"), 0.05), NOT_SOUND),
        "cut.mp4": (lambda: cut(coded("mp4", "aac"), 0.5), NOT_SOUND),
        "cut.ogg": (lambda: cut(coded("ogg", "libopus"), 0.5), NOT_SOUND),
        "cut.flac": (lambda: cut(coded("flac", "flac"), 0.05), NOT_SOUND),
        "cut.mkv": (lambda: cut(coded("matroska", "flac"), 0.05), "must hold sound, got an audio stream w"),
        "flipped.aac": (lambda: flipped(coded("adts", "aac"), 0.02), NOT_SOUND),
        "leads-out-of-itself.w64": (_lost, NOT_SOUND),
        "film.mp4": (lambda: coded("mp4", "libx264", sound=False), "must have an audio stream, got video"),
        "no-samples.wav": (lambda: wav(b""), "must hold sound, got an audio stream without a single sample"),
        "no-rate.wav": (lambda: wav(rate=0), NOT_SOUND),
        "slow.wav": (lambda: wav(rate=1), "must have 1,000 to 1,000,000 samples a second, got 1;"),
        "fast.wav": (lambda: wav(rate=2**31 - 1), "1,000,000 samples a second, got 2,147,483,647"),
        "bomb.flac": (lambda: flac(1), "must have 1,000 to 1,000,000 samples a second, got 1;"),
        "centuries.flac": (
            lambda: flac(1_000, total=2**35),
            "must last at most 21600 s (inputs.max_audio_seconds of the config), got 34359738 s",
        ),
        "no-channels.wav": (lambda: wav(channels=0), "must hold sound with a rate and 1 to 512 channels"),
        "65-channels.wav": (
            lambda: wav(bytes(2 * 65 * 80), channels=65),
            "must have at most 64 channels of sound (inputs.max_audio_channels of the config), got 65",
        ),
        "1000-channels.wav": (
            lambda: wav(bytes(2 * 1000 * 80), channels=1000),
            "1 to 512 channels, got 8000 samples a second and none, or more channels",
        ),
        "no-bits.wav": (lambda: wav(bits=0), "must hold sound of a known codec"),
        "no-codec.wav": (lambda: wav(code=0x7777), "must hold sound of a known codec"),
        "list.m3u8": (lambda: f"#EXTM3U\n#EXTINF:1,\n../{SECRET}\n#EXT-X-ENDLIST\n".encode(), NOT_SOUND),
        "list.wav": (lambda: f"#EXTM3U\n#EXTINF:1,\n../{SECRET}\n#EXT-X-ENDLIST\n".encode(), NOT_SOUND),
        "list.ffconcat": (lambda: f"ffconcat version 1.0\nfile '../{SECRET}'\n".encode(), NOT_SOUND),
        "call.sdp": (
            lambda: b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
            NOT_SOUND,
        ),
    },
) + _files(
    "audio",
    {
        "nan.wav": (lambda: floats(float("nan")), "must hold finite samples, got NaN or infinity"),
        "infinite.wav": (lambda: floats(float("inf")), "must hold finite samples, got NaN or infinity"),
        "hole.flac": (lambda: cut(coded("flac", "flac"), 0.5), NOT_SOUND),
    },
    validated=False,
)

IMAGES = _files(
    "image",
    {
        "empty.png": (lambda: b"", NOT_IMAGE),
        "text.png": (lambda: b"a red circle", NOT_IMAGE),
        "html.jpg": (lambda: b"<!DOCTYPE html><title>404 Not Found</title>", NOT_IMAGE),
        "sound.png": (wav, NOT_IMAGE),
        "film.gif": (lambda: coded("mp4", "libx264", sound=False), NOT_IMAGE),
        "packed.png": (lambda: gzip.compress(picture()), NOT_IMAGE),
        "drawing.svg": (
            lambda: f'<svg><image href="{FILE}/etc/passwd"/></svg>'.encode(),
            NOT_IMAGE,
        ),
        "page.pdf": (lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", NOT_IMAGE),
        "program.eps": (
            lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
            NOT_IMAGE,
        ),
        "layers.psd": (lambda: b"8BPS\0\1" + bytes(100), NOT_IMAGE),
        "nothing.gif": (lambda: b"GIF89a\x40\0\x40\0\0\0\0\x3b", NOT_IMAGE),
        "0x0.png": (lambda: png(0, 0), NOT_IMAGE),
        "0x64.png": (lambda: png(0, 64), NOT_IMAGE),
        "cut.png": (lambda: cut(picture(), 0.5), BROKEN_IMAGE),
        "checksum.png": (lambda: flipped(picture(), 0.5), BROKEN_IMAGE),
        "no-pixels.png": (lambda: png(64, 64), BROKEN_IMAGE),
        "few-pixels.png": (lambda: png(64, 64, bytes(100)), BROKEN_IMAGE),
        "cut.webp": (lambda: cut(picture("WEBP"), 0.5), BROKEN_IMAGE),
        "bomb-in-text.png": (
            lambda: png(8, 8, bytes(72), (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26), 9))),
            BROKEN_IMAGE,
        ),
        "bomb.png": (lambda: png(20_000, 20_000), "must be an image of a safe size, got"),
        "large.png": (
            lambda: png(9_500, 9_500, bytes(9_501 * 9_500)),
            "must have at most 89,478,485 pixels (inputs.max_image_pixels of the config), got 9500x9500",
        ),
        "endless.png": (lambda: png(2**31 - 1, 2**31 - 1), "must be an image of a safe size, got"),
    },
) + _files(
    "image",
    {
        "cut.jpg": (lambda: cut(picture("JPEG"), 0.5), BROKEN_IMAGE),
        "cut.bmp": (lambda: cut(picture("BMP"), 0.5), BROKEN_IMAGE),
        "cut.tif": (lambda: cut(picture("TIFF"), 0.5), BROKEN_IMAGE),
        "cut.jp2": (lambda: cut(picture("JPEG2000"), 0.5), BROKEN_IMAGE),
        "cut.avif": (lambda: cut(picture("AVIF"), 0.95), BROKEN_IMAGE),
    },
    validated=False,
)


def _audio(name: str, path: object, words: str, write: Callable[[Path], None] | None = None) -> Bad:
    return Bad(f"audio {name}", {"audio": path}, words, write)


PLACES = [
    _audio("missing", "nowhere.wav", "audio: media must be an existing file, got"),
    _audio("folder", "takes", "it is a folder; name a file in it", lambda folder: (folder / "takes").mkdir()),
    _audio("manifest-folder", ".", "it is a folder; name a file in it"),
    _audio("number", 5, "audio: must be text, got 5"),
    _audio("blank", " ", "audio: must not be empty, got ' '"),
    _audio("too-long", "x" * 5000, "audio: must have at most 4,096 characters, has 5,000"),
    _audio("name-too-long", "x" * 300 + ".wav", "audio: media must be readable"),
    _audio("nul", "a\0.wav", "audio: must not have characters that control"),
    _audio("escape", "\x1b[2J.wav", "audio: must not have characters that control"),
    _audio("line", "a\u2028b.wav", "audio: must not have characters that control"),
    _audio("c1", "\x9b2J.wav", "audio: must not have characters that control"),
    _audio("right-to-left", f"a{RIGHT_TO_LEFT}vaw.exe", "audio: must not have characters that control"),
    _audio("surrogate", "\ud800.wav", "audio: must be valid Unicode"),
    _audio("traversal", f"../{SECRET}", OUTSIDE),
    _audio("hidden-traversal", f"takes/../../{SECRET}", OUTSIDE),
    _audio("absolute", "/etc/passwd", OUTSIDE),
    _audio("proc", "/proc/self/environ", OUTSIDE),
    _audio("device", "/dev/zero", OUTSIDE),
    _audio("file-url", FILE + "/etc/passwd", "must be named by its path"),
    _audio("metadata", "http://169.254.169.254/latest/", "must be of an allowed scheme"),
    _audio("metadata-https", "https://169.254.169.254/latest/", "169.254.169.254 is link-local"),
    _audio("loopback", "https://127.0.0.1/a.wav", "127.0.0.1 is loopback"),
    _audio("number-of-loopback", "https://2130706433/a.wav", "an address must be written in full"),
    _audio("bucket", "s3://private/a.wav", "must be of an allowed scheme"),
    _audio("chain", "zip://a.wav::https://x.org/a.zip", "must be named by one path or URL, got the chain"),
    _audio("secret", "ftp://me:word@x.org/a.wav?token=abc", "got ftp://...@x.org/a.wav?..."),
    _audio(
        "link-out",
        "out.wav",
        "which leads to",
        lambda folder: (folder / "out.wav").symlink_to(folder.parent / SECRET),
    ),
    _audio(
        "link-to-itself",
        "loop.wav",
        "audio: media must be readable, got",
        lambda folder: (folder / "loop.wav").symlink_to("loop.wav"),
    ),
    _audio(
        "link-to-nothing",
        "gone.wav",
        "audio: media must be an existing file, got",
        lambda folder: (folder / "gone.wav").symlink_to("nowhere.wav"),
    ),
    _audio(
        "link-to-a-device",
        "zero.wav",
        "which leads to /dev/zero",
        lambda folder: (folder / "zero.wav").symlink_to("/dev/zero"),
    ),
    _audio(
        "link-to-an-escape",
        "odd.wav",
        "\\x1b[2J",
        lambda folder: (folder / "odd.wav").symlink_to(folder.parent / "\x1b[2J\n.wav"),
    ),
    _audio("pipe", "pipe.wav", "it is a pipe or a device", lambda folder: os.mkfifo(folder / "pipe.wav")),
    _audio("socket", "socket.wav", "it is a pipe or a device", _socket),
    Bad(
        "audio-start beyond the end",
        {"audio": "short.wav", "audio_start_s": 7},
        "audio_start_s: must lie within the 0.100 seconds of",
        _bytes("short.wav", wav),
        validated=False,
    ),
    Bad("image missing", {"image": "nowhere.png"}, "image: media must be an existing file, got"),
    Bad("image traversal", {"image": "../../x.png"}, f"image: {OUTSIDE}"),
    Bad("image url", {"image": "https://10.0.0.1/x.png"}, "10.0.0.1 is private"),
    Bad("image list", {"image": ["a.png"]}, "image: must be text, got ['a.png']"),
    Bad("image is-a-sound", {"image": "title.wav"}, NOT_IMAGE),
    Bad("audio is-an-image", {"audio": "two pictures.jpg"}, NOT_SOUND),
]

FILES = [*SOUNDS, *IMAGES, *PLACES]

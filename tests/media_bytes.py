"""Images and sounds as bytes, right or wrong as they are asked for."""

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 64), **options: Any) -> bytes:
    """A whole image of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, kind, **options)
    return data.getvalue()


def png(width: int, height: int, pixels: bytes = b"", *others: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8-bit grey whose header says ``width`` x ``height``; its checksums are right."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), *others, (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def wav(
    samples: bytes = b"\0\0" * 800,
    *,
    rate: int = 8_000,
    channels: int = 1,
    bits: int = 16,
    code: int = 1,
    more: bytes = b"",
) -> bytes:
    """A WAV file that says of itself what it is told to."""
    block = max(channels * bits // 8, 1)
    form = struct.pack("<HHIIHH", code, channels, rate, (rate * block) & 0xFFFFFFFF, block & 0xFFFF, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + more
    body += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac(rate: int, samples: int = 65_535, total: int = 0) -> bytes:
    """A FLAC file of one block of silence; ``total``: samples that its header says, 0 says nothing."""
    head = struct.pack(">HH", samples, samples) + bytes(6)
    head += ((rate << 44) | (0 << 41) | (15 << 36) | total).to_bytes(8, "big") + bytes(16)
    frame = bytes([0xFF, 0xF8, 0x70, 0x08, 0x00]) + struct.pack(">H", samples - 1)
    frame += bytes([_crc8(frame)]) + bytes([0x00, 0x00, 0x00])  # one channel of one constant, 0
    return b"fLaC\x80" + struct.pack(">I", len(head))[1:] + head + frame + struct.pack(">H", _crc16(frame))


def coded(name: str, codec: str, *, sound: bool = True, seconds: float = 1.0) -> bytes:
    """A media file with a tone, or with a film instead."""
    data = io.BytesIO()
    with av.open(data, "w", format=name) as container:
        stream: Any = container.add_stream(codec, rate=48_000 if sound else 24)
        if sound:
            stream.layout = "mono"
            _put_tone(container, stream, round(48_000 * seconds))
        else:
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for index in range(round(24 * seconds)):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index, np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 24)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return data.getvalue()


def floats(value: float) -> bytes:
    """A WAV file of 32-bit floating point samples, one of which is ``value``."""
    return wav(struct.pack("<2400f", *[0.1] * 1200, value, *[0.1] * 1199), bits=32, code=3)


def flipped(data: bytes, place: float) -> bytes:
    """``data`` with a byte changed, ``place`` of the way through it."""
    at = int(len(data) * place)
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def cut(data: bytes, keep: float) -> bytes:
    """The first ``keep`` of ``data``."""
    return data[: int(len(data) * keep)]


def _put_tone(container: Any, stream: Any, count: int) -> None:
    tone = (0.2 * np.sin(np.arange(count) / 20)).astype(np.float32)
    for start in range(0, count, 1024):
        block = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
        block.sample_rate, block.pts, block.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(stream.encode(block))


def _crc8(data: bytes) -> int:
    return _crc(data, 8, 0x07)


def _crc16(data: bytes) -> int:
    return _crc(data, 16, 0x8005)


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    value = 0
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1) ^ (polynomial if value >> (bits - 1) else 0)
            value &= (1 << bits) - 1
    return value

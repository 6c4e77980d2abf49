"""Make the sound and the picture of the examples: ``python examples/make_assets.py``.

The made files are committed; the same numpy, Pillow and PyAV make the same samples and pixels.
"""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

ASSETS = Path(__file__).parent / "assets"
RATE = 22_050  # samples per second
SECONDS = 16.0
BEEP_SECONDS = 0.12
FADE_SECONDS = 0.01  # at both ends of a beep, against clicks
NOISE = 4e-4  # RMS of full scale: hiss that is heard between the beeps, and that FLAC still packs small


def beats() -> NDArray[np.float64]:
    """Seconds at which a beep begins: 100 a minute, and each fourth one doubled half a beat later."""
    beat = 60 / 100
    steady = np.arange(0.5, SECONDS - BEEP_SECONDS, beat)
    doubled = steady[3::4] + beat / 2
    return np.sort(np.concatenate([steady, doubled[doubled < SECONDS - BEEP_SECONDS]]))


def beat_sound() -> NDArray[np.int16]:
    """Beeps over soft noise: int16 ``[samples]`` at RATE."""
    random = np.random.default_rng(0)
    sound = random.normal(0.0, NOISE, round(SECONDS * RATE))
    time = np.arange(round(BEEP_SECONDS * RATE)) / RATE
    ends = np.minimum(time, time[::-1]) / FADE_SECONDS
    for number, start in enumerate(beats()):
        pitch = (440.0, 554.37, 659.25, 880.0)[number % 4]  # an A major chord, note by note
        beep = 0.5 * np.sin(2 * np.pi * pitch * time) * np.clip(ends, 0.0, 1.0)
        first = round(start * RATE)
        sound[first : first + len(beep)] += beep
    return np.round(np.clip(sound, -1.0, 1.0) * 32_767).astype(np.int16)


def write_flac(path: Path, samples: NDArray[np.int16]) -> None:
    """Write mono int16 ``[samples]`` at RATE as FLAC."""
    with av.open(str(path), "w", format="flac", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def first_frame(size: int = 384) -> NDArray[np.uint8]:
    """A red circle left of the middle of a blue and green gradient: uint8 ``[size, size, 3]``."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    background = np.stack([0.10 + 0.15 * y, 0.25 + 0.45 * x, 0.75 - 0.35 * y], axis=-1)
    distance = np.hypot(x - 0.36, y - 0.5) - 0.2
    inside = np.clip(0.5 - distance * size, 0.0, 1.0)[..., np.newaxis]  # an edge of one pixel
    picture = background * (1 - inside) + np.array([0.9, 0.15, 0.1]) * inside
    return np.asarray(np.round(picture * 255), np.uint8)


def main() -> None:
    """Write both files."""
    ASSETS.mkdir(exist_ok=True)
    write_flac(ASSETS / "beat.flac", beat_sound())
    Image.fromarray(first_frame()).save(ASSETS / "red_circle.png", optimize=True)


if __name__ == "__main__":
    main()

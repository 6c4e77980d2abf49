"""Make the sound and the picture of the examples: ``python examples/make_assets.py``.

The made files are committed; the same numpy, Pillow and PyAV make the same samples and pixels.
"""

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltx_ray.training.world import Scene
from ltx_ray.training.world_picture import render

ASSETS = Path(__file__).parent / "assets"
RATE = 22_050  # samples per second
SECONDS = 16.0
BEEP_SECONDS = 0.16
ATTACK_SECONDS, DECAY_SECONDS = 0.002, 0.04  # as a string that is plucked
NOISE = 2e-3  # RMS of full scale: hiss that is heard between the beeps, and that FLAC still packs small


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
    plucked = np.minimum(time / ATTACK_SECONDS, 1.0) * np.exp(-time / DECAY_SECONDS)
    for number, start in enumerate(beats()):
        pitch = (440.0, 554.37, 659.25, 880.0)[number % 4]  # an A major chord, note by note
        beep = 0.7 * np.sin(2 * np.pi * pitch * time) * plucked
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
    """A red circle of the synthetic world, left of the middle: uint8 ``[size, size, 3]``."""
    shown = Scene(
        seed=0,
        split="train",
        colour="red",
        shape="circle",
        direction="right",
        speed=0.3,
        radius=0.21,
        phase=0.42,
        lane=0.5,
        background=((0.10, 0.12, 0.16), (0.17, 0.15, 0.13)),
        vertical=True,
        sound=None,
        onsets=(),
    )
    return np.asarray(np.round(render(shown, 1, size, size)[0] * 255), np.uint8)


def main() -> None:
    """Write both files."""
    ASSETS.mkdir(exist_ok=True)
    write_flac(ASSETS / "beat.flac", beat_sound())
    Image.fromarray(first_frame()).save(ASSETS / "red_circle.png", optimize=True)


if __name__ == "__main__":
    main()

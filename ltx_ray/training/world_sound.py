"""Sounds of the synthetic world: beeps, clicks and claps at a scene's onsets, in noise and hum.

What is held out sounds unlike what is trained on: beeps of other pitches, clicks and claps of other lengths.
What is trained on has more kinds, for users' sounds: tones that begin slowly and last, and near silence.
"""

import numpy as np
import numpy.typing as npt

from ltx_ray.training.world import Scene, Split

SAMPLE_RATE = 16_000

# Streams of random numbers beside the scene's own.
_STREAM = 0x50
# Hz. Held-out pitches lie between those of the training and their overtones, never among them.
_PITCHES: dict[Split, tuple[tuple[float, float], ...]] = {
    "train": ((300, 360), (390, 700), (800, 1400), (1600, 3000)),
    "held_out": ((720, 780), (1430, 1570)),
}
# Seconds in which a click, and a burst of a clap, falls to 1/e.
_DECAYS: dict[Split, tuple[float, float]] = {"train": (0.004, 0.012), "held_out": (0.013, 0.016)}
_BURSTS = 3  # of a clap
_LENGTH = 0.16  # seconds of a sound: all have ended by then, but for tones
# Of the training alone: part of the beeps that are tones, with the ranges of the seconds in which they rise
# and for which they last; part of the clips that are silent between sounds, and of those that are nearly so.
_TONES, _RISES, _LASTS = 0.35, (0.002, 0.03), (0.05, 0.3)
_SILENT, _QUIET = 0.1, 0.2


def render_sound(scene: Scene, seconds: float, *, shift: float = 0.0) -> npt.NDArray[np.float32]:
    """Samples [n] in [-1, 1] at 16 kHz; the sounds come ``shift`` seconds after the scene's onsets."""
    # Two streams, so that a longer sound begins as a shorter one does.
    ambience, draw = (
        np.random.default_rng([_STREAM + part, int(scene.split == "held_out"), scene.seed]) for part in (0, 1)
    )
    count = round(seconds * SAMPLE_RATE)
    wave = _ambience(ambience, count, scene.split)
    for onset in scene.onsets:
        heard = (0.35 + 0.5 * draw.uniform()) * _one(scene, draw)
        first = round((onset + shift) * SAMPLE_RATE)
        begin, end = max(first, 0), min(first + len(heard), count)
        if begin < end:
            wave[begin:end] += heard[begin - first : end - first]
    return np.clip(wave, -1, 1).astype(np.float32)


def _ambience(draw: np.random.Generator, count: int, split: Split) -> npt.NDArray[np.float64]:
    """Noise of -20 to -60 dB below a sound, and in half of the clips the hum of a machine; of the clips that
    are trained on, some have less or none of either."""
    noise, hums = 0.3 * 10 ** -draw.uniform(1, 3), draw.uniform() < 0.5
    pitch, level, phases = draw.uniform(50, 250), draw.uniform(0, 0.06), draw.uniform(size=3)
    kind = draw.uniform() if split == "train" else 1.0
    if kind < _SILENT:
        return np.zeros(count)
    if kind < _SILENT + _QUIET:
        noise, level = 1e-2 * noise, 1e-2 * level
    wave = noise * draw.standard_normal(count)
    if hums:
        time = np.arange(count) / SAMPLE_RATE
        for overtone, phase in enumerate(phases, start=1):
            wave += level / overtone * np.sin(2 * np.pi * (overtone * pitch * time + phase))
    return wave


def _one(scene: Scene, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """One beep, click or clap of amplitude about 1, beginning at its first sample."""
    if scene.sound == "beep" and scene.split == "train" and draw.uniform() < _TONES:
        return _tone(draw)
    time = np.arange(round(_LENGTH * SAMPLE_RATE)) / SAMPLE_RATE
    attack = np.minimum(time / 0.002, 1)
    if scene.sound == "beep":
        bands = _PITCHES[scene.split]
        pitch = draw.uniform(*bands[draw.integers(len(bands))])
        overtone = draw.uniform(0, 0.5) * np.sin(4 * np.pi * pitch * time)
        return (
            attack * np.exp(-time / draw.uniform(0.025, 0.05)) * (np.sin(2 * np.pi * pitch * time) + overtone)
        )
    noise = draw.standard_normal(len(time))
    decay = draw.uniform(*_DECAYS[scene.split])
    if scene.sound == "click":
        return 0.7 * noise * np.exp(-time / decay)
    gap = draw.uniform(0.008, 0.014)
    bursts = [
        np.where(time >= gap * n, np.exp(-np.maximum(time - gap * n, 0) / decay), 0) for n in range(_BURSTS)
    ]
    return np.asarray(0.7 * noise * np.maximum.reduce(bursts), dtype=np.float64)


def _tone(draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """A tone of the training that rises, lasts and falls."""
    bands = _PITCHES["train"]
    pitch, lasts = draw.uniform(*bands[draw.integers(len(bands))]), draw.uniform(*_LASTS)
    rises = np.exp(draw.uniform(*np.log(_RISES)))
    time = np.arange(round((lasts + _LENGTH) * SAMPLE_RATE)) / SAMPLE_RATE
    falls = np.exp(-np.maximum(time - lasts, 0) / draw.uniform(0.015, 0.03))
    return np.asarray(np.minimum(time / rises, 1) * falls * np.sin(2 * np.pi * pitch * time))

"""Onsets: when something begins in a sound, and when something flashes in a picture.

Sound: spectral flux of compressed mels (Boeck, Krebs and Schedl, ISMIR 2012; with each band's noise floor
instead of a fixed one), an adaptive threshold, then the rise itself in a millisecond envelope around each.
Picture: the rise of the mean brightness, one onset for each run of rising frames, at its largest rise.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

RATE = 16_000  # samples per second on which sounds are measured
HOP = 80  # samples from one frame of the flux to the next: 5 ms
_N_FFT = 512
_MELS = 40
_LAG = 2  # frames over which a rise is looked for
_QUIET = 1e-4  # magnitudes of a band below which nothing is heard (about -80 dB of full scale)
# An onset is the largest flux of 50 ms, stands out of the second around it by this many deviations, and has
# this part of the strongest (the 90th percentile of all that stand out).
_APART_SECONDS, _AROUND_SECONDS = 0.05, 0.5
_DEVIATIONS, _LEAST_FLUX, _PART_OF_STRONG = 6.0, 0.06, 0.15
# Windows that reach over the beginning of a sound see it mirrored, which makes a little flux.
_LEAST_FLUX_AT_START = 0.3
# Rise of the mean brightness, in 0..1, that counts, and how far it must stand out of the second around it.
_LEAST_RISE, _TIMES_AROUND = 0.012, 3.0
_SUDDEN = 0.3  # part of a run's rise that its largest frame has: slow waves are no onsets

Series = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Onsets:
    """What begins when, and the curve it was found in."""

    times: Series  # [k] seconds, rising
    strength: Series  # [n], 0 or more
    rate: float  # values of ``strength`` in a second, the first at 0 s


def sound_onsets(samples: NDArray[np.float32], rate: int) -> Onsets:
    """Onsets of ``samples`` [channels, n] or [n] in -1..1 at ``rate`` per second, right to a few ms.

    What is steady, such as hum and noise, has none.
    """
    mono = torch.from_numpy(np.atleast_2d(samples).mean(axis=0).astype(np.float32))
    if rate != RATE:
        mono = torchaudio.functional.resample(mono, rate, RATE)
    flux = _flux(mono)
    envelope = _envelope(mono.numpy())
    found = [frame for frame in _peaks(flux) if _grows(envelope, frame * HOP)]
    times = np.array([_rise(envelope, frame * HOP) / RATE for frame in found], dtype=np.float64)
    return Onsets(times=times, strength=flux, rate=RATE / HOP)


def picture_onsets(brightness: Series, fps: float) -> Onsets:
    """Onsets of frames of mean ``brightness`` [n] in 0..1: frame f is taken to have begun half a frame before
    it appears, the middle of the time that it stands for, so that offsets to a sound are 0 on average."""
    rise = brightness_rise(brightness, fps)
    frames = flash_frames(rise, fps)
    return Onsets(times=np.maximum((frames - 0.5) / fps, 0.0), strength=rise, rate=fps)


def brightness_rise(brightness: Series, fps: float) -> Series:
    """[n]: by how much each frame is brighter than the one before, less what is usual around it; 0 or
    more."""
    change = np.diff(brightness, prepend=brightness[:1])
    usual = _median(change, max(round(_AROUND_SECONDS * fps), 1))
    return np.maximum(change - np.maximum(usual, 0), 0)


def flash_frames(rise: Series, fps: float) -> NDArray[np.int64]:
    """Frames of the onsets in a ``rise`` [n]: those that first show something new."""
    around = max(round(2 * _AROUND_SECONDS * fps), 1)
    found: list[int] = []
    for run in _runs(rise > _LEAST_RISE / 4):
        peak = run.start + int(np.argmax(rise[run]))
        beside = np.concatenate(
            [rise[max(run.start - around, 0) : run.start], rise[run.stop : run.stop + around]]
        )
        level = float(beside.mean()) if len(beside) else 0.0
        is_sudden = rise[peak] >= _SUDDEN * rise[run].sum()
        if peak and is_sudden and rise[peak] > max(_LEAST_RISE, _TIMES_AROUND * level):
            found.append(peak)
    return np.array(found, dtype=np.int64)


def _flux(mono: torch.Tensor) -> Series:
    """[frames] rise of the mels, each compressed above its own noise, mean over the bands; 5 ms a frame."""
    spectrogram = torchaudio.transforms.MelSpectrogram(
        RATE, _N_FFT, hop_length=HOP, n_mels=_MELS, f_min=60.0, power=1.0, norm="slaney", mel_scale="slaney"
    )
    mels = spectrogram(torch.nn.functional.pad(mono, (0, max(_N_FFT - len(mono), 0)))).double()
    floor = torch.quantile(mels[:, :: max(mels.shape[1] // 5000, 1)], 0.5, dim=1, keepdim=True)
    heard = torch.log1p(mels / (2 * floor).clamp(min=_QUIET))
    rise = (heard[:, _LAG:] - heard[:, :-_LAG]).clamp(min=0).mean(dim=0)
    # A rise between frames n - 1 and n + 1 is one at n.
    flux = torch.nn.functional.pad(rise, (_LAG // 2, _LAG // 2))
    return np.asarray(flux.numpy(), dtype=np.float64)


def _peaks(flux: Series) -> list[int]:
    apart, around = (round(seconds * RATE / HOP) for seconds in (_APART_SECONDS, _AROUND_SECONDS))
    middle = _median(flux, around)
    spread = 1.4826 * _median(np.abs(flux - middle), around)
    above = flux - middle
    edge = _N_FFT // (2 * HOP)
    above[: edge + 1][above[: edge + 1] < _LEAST_FLUX_AT_START] = 0
    above[len(above) - edge - 1 :] = 0
    found = [
        index
        for index in np.flatnonzero(above > np.maximum(_DEVIATIONS * spread, _LEAST_FLUX))
        if flux[index] == flux[max(index - apart, 0) : index + apart + 1].max()
    ]
    strong = np.quantile([above[index] for index in found], 0.9) if found else 0.0
    kept: list[int] = []
    for index in found:
        if above[index] >= _PART_OF_STRONG * strong and (not kept or index - kept[-1] > apart):
            kept.append(int(index))
    return kept


def _envelope(mono: NDArray[np.float32]) -> Series:
    """[n] loudness over 2 ms, of what is above some hundred Hz: a hum hides nothing."""
    high = np.abs(np.diff(mono.astype(np.float64), prepend=mono[:1].astype(np.float64)))
    width = RATE // 500
    return np.convolve(high, np.ones(width) / width, mode="same")


def _grows(envelope: Series, at: int) -> bool:
    """Whether it is louder after the sample ``at`` than before: a tone that is cut off has flux too."""
    near = RATE // 50
    before, after = envelope[max(at - near, 0) : at], envelope[at : at + near]
    return not len(before) or not len(after) or float(after.max()) > float(before.max())


def _rise(envelope: Series, at: int) -> int:
    """The sample near ``at`` at which ``envelope`` goes up: where it first has a third of its new height."""
    ms = RATE // 1000
    before = envelope[max(at - 70 * ms, 0) : max(at - 25 * ms, 0)]
    near = envelope[max(at - 25 * ms, 0) : at + 25 * ms]
    if not len(near):
        return at
    floor = float(np.quantile(before, 0.9)) if len(before) else 0.0
    top = float(near.max())
    if top < 1.5 * floor:
        return at
    return max(at - 25 * ms, 0) + int(np.argmax(near > floor + (top - floor) / 3))


def _median(values: Series, reach: int) -> Series:
    """The median of each value and ``reach`` values to both sides of it."""
    padded = np.pad(values, reach, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.concatenate(
        [np.median(part, axis=1) for part in np.array_split(windows, len(values) // 2000 + 1)]
    )


def _runs(is_in: NDArray[np.bool_]) -> list[slice]:
    """The runs of True, as slices."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_in, [False]]).astype(np.int8)))
    return [slice(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]

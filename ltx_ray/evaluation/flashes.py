"""Where a video flashes: what is measured between frames is measured where it does not."""

import numpy as np
from numpy.typing import NDArray

# Rise of the mean brightness, in 0..1, from one frame to the next, below which nothing counts as a flash.
_RISE = 0.01
_SUDDEN = 0.3  # part of its rise that the first frame has
_RISING_SECONDS = 0.15  # a flash is at its brightest this soon
_FALLING_SECONDS = 0.6  # and half gone this soon after: what stays bright is no flash, but a cut or a fade
_LONGEST_SECONDS = 1.0
# A flash is over once it falls by less than this, of its height and of full brightness, in a frame.
_STILL_FALLING, _LEAST_FALL = 0.012, 0.0008


def calm_frames(brightness: NDArray[np.float64], fps: float) -> NDArray[np.bool_]:
    """Bool [n]: the frames that are not within a flash, of the mean brightness [n] of frames.

    A flash is a sudden rise of which at least half is gone again after 0.6 s. A lasting change, as at a cut,
    is none: nothing that a chunk's seam does to stay hides behind this.
    """
    calm = np.ones(len(brightness), dtype=bool)
    index = 1
    while index < len(brightness):
        if brightness[index] - brightness[index - 1] <= _RISE:
            index += 1
            continue
        stop = _end_of_flash(brightness, index, fps)
        if stop is not None:
            calm[index:stop] = False
        index = max(index + 1, stop or 0)
    return calm


def calm_runs(calm: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Bool [n]: whether each frame and the ``length`` - 1 frames before it are all calm, and all there."""
    found = calm.copy()
    for back in range(1, length):
        found[back:] &= calm[:-back]
        found[: min(back, len(found))] = False
    return found


def _end_of_flash(brightness: NDArray[np.float64], first: int, fps: float) -> int | None:
    """One past the last frame of the flash that begins at frame ``first``; None where there is none."""
    count = len(brightness)
    peak = first + int(np.argmax(brightness[first : first + max(round(_RISING_SECONDS * fps), 1)]))
    height = brightness[peak] - brightness[first - 1]
    if brightness[first] - brightness[first - 1] < _SUDDEN * height:
        return None
    half = peak + max(round(_FALLING_SECONDS * fps), 1)
    falls_to = brightness[peak : half + 1].min()
    is_cut_off = half >= count and (peak >= count - 2 or falls_to < brightness[peak] - 0.2 * height)
    if falls_to > brightness[peak] - height / 2 and not is_cut_off:
        return None
    least = max(_STILL_FALLING * height, _LEAST_FALL)
    for index in range(peak + 1, min(peak + round(_LONGEST_SECONDS * fps), count)):
        if abs(brightness[index] - brightness[index - 1]) < least:
            return index
        if brightness[index] - brightness[index - 1] > max(_RISE, least):
            return index  # the next one begins
    return min(peak + round(_LONGEST_SECONDS * fps), count)

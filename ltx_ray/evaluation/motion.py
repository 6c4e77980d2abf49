"""What changes from frame to frame beyond an even motion: the motion-compensated frame difference.

The motion that led to a frame is found by optical flow, and is taken to go on: the next frame, looked up
along it, is compared with this one. So a jump counts however well flow could follow it, and a crossfade of
two pictures, which no motion explains, counts too.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ltx_ray.evaluation.frames import fitted, scaled
from ltx_ray.sampling.optical_flow import estimate_flow, visible, warp

# Pixels of the shorter side on which motion is looked for. Flow costs about 30 ms a frame at this size on one
# core; motions of up to a tenth of the frame are found.
SIDE = 128
_BATCH = 8  # frames whose flow is found together
# Below this standard deviation, in 0..1, a frame counts as flat, and its noise is not taken for contrast.
_FLAT = 0.02


def compensated_differences(frames: Iterable[NDArray[np.float32]]) -> Iterator[float]:
    """For each frame [H, W, 3] from the third on, in order: the root mean square, in 0..1, of what differs
    from the frame before, along the motion that led there. Evenly moving frames have about 0.

    Differences are taken of slightly blurred frames, so that noise, which no motion explains, weighs little.
    """
    kept: list[torch.Tensor] = []
    for frame in frames:
        height, width = frame.shape[:2]
        small = scaled(frame, *fitted(width, height, SIDE))
        kept.append(torch.from_numpy(small).permute(2, 0, 1))
        if len(kept) == _BATCH + 2:
            yield from _differences(torch.stack(kept))
            kept = kept[-2:]
    if len(kept) > 2:
        yield from _differences(torch.stack(kept))


@torch.no_grad()
def _differences(frames: torch.Tensor) -> list[float]:
    """Of frames [N, 3, H, W] those of the third to the last."""
    smooth = _blurred(frames)
    older, here, newer = smooth[:-2], smooth[1:-1], smooth[2:]
    contrast = here.std(dim=(1, 2, 3), keepdim=True).clamp(min=_FLAT)
    # What stands at x in this frame stood at x + back in the older one, and will stand at x - back.
    back = estimate_flow(here / contrast, older / contrast).motion
    seen = visible(-back) & visible(back)
    change = (warp(newer, -back) - here) ** 2 * seen
    area = seen.sum(dim=(1, 2, 3)).clamp(min=1) * frames.shape[1]
    return [float(value) for value in (change.sum(dim=(1, 2, 3)) / area).sqrt()]


def _blurred(frames: torch.Tensor) -> torch.Tensor:
    """``frames`` under the binomial [1 4 6 4 1] / 16 along both axes."""
    channels = frames.shape[1]
    kernel = frames.new_tensor([1, 4, 6, 4, 1]).div(16).expand(channels, 1, 1, 5)
    wide = F.conv2d(F.pad(frames, (2, 2, 0, 0), mode="replicate"), kernel, groups=channels)
    return F.conv2d(F.pad(wide, (0, 0, 2, 2), mode="replicate"), kernel.transpose(2, 3), groups=channels)

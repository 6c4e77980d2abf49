"""Dense optical flow between frames, or latents, of any number of channels: pyramidal Lucas-Kanade.

The flow of a pair (before, after) is the field v with before(x) = after(x + v(x)): what stood at x has
moved by v. At each level of a pyramid, from coarse to fine, v is bettered by damped Gauss-Newton steps on
the squared difference, summed over all channels and a binomial window (Lucas and Kanade 1981; Bouguet 2000
for the pyramid with warping). It is a field per cell, so that it serves a grid of 4 x 5 latent cells as
well as a frame.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

# A level whose shorter side is not above this is the coarsest: the window would see nothing but the border.
_COARSEST = 12
# Steps a level. Each moves a cell by at most one cell of its level, so 2 of them cover what the level above
# leaves open (half a cell of its own), and the coarsest level, where motion is large, has more.
_STEPS, _STEPS_COARSEST = 4, 8
# Damping of a step, in squared deviations of brightness per squared cell. It slows a step where there is
# little texture and leaves v as it was where there is none; it does not move the solution.
_DAMPING = 1e-3
# Window of the least squares: passes of the binomial [1 4 6 4 1] / 16, of a variance of 1 cell^2 each.
_WINDOW_PASSES = 2


@dataclass(frozen=True, slots=True)
class Flow:
    """Motion of N pairs of frames on one grid."""

    motion: torch.Tensor  # [N, 2, H, W]: x (to the right), then y (downwards), in cells; differentiable
    texture: torch.Tensor  # [N, 3, H, W]: windowed means over channels of gx^2, gx gy, gy^2 of ``before``


def estimate_flow(before: torch.Tensor, after: torch.Tensor) -> Flow:
    """Flow from ``before`` to ``after``, both float [N, C, H, W] of a contrast of about 1 (H, W >= 1).

    Equal frames have a flow of exactly 0. Motions of up to about a tenth of the frame are found reliably,
    larger ones where its coarse structure shows them; none is above half the frame along either axis, plus
    one cell. Without a counterpart (a cut) the field is rough, but bounded.

    The gradient is that of the last Gauss-Newton step: what is found before it, and the texture, are taken as
    constants. At the solution that is the derivative of the implicit function, and costs no unrolled pyramid.
    """
    with torch.no_grad():
        levels = [_Level.of(before.detach(), after.detach())]
        while min(levels[-1].before.shape[-2:]) > _COARSEST:
            levels.append(levels[-1].halved())
        motion = before.new_zeros(before.shape[0], 2, *levels[-1].before.shape[-2:])
        motion = levels[-1].bettered(motion, _STEPS_COARSEST)
        for coarse, fine in pairwise(reversed(levels)):
            motion = fine.bettered(_enlarged(motion, coarse.before.shape, fine.before.shape), _STEPS)
    level = levels[0]
    return Flow(motion + level.step(warp(after, motion) - before, motion), _windowed(level.products))


@dataclass(frozen=True, slots=True)
class _Level:
    """A pair at one resolution, and what every step of it needs."""

    before: torch.Tensor  # [N, C, H, W]
    after: torch.Tensor  # [N, C, H, W]
    gradients: tuple[torch.Tensor, torch.Tensor]  # of before, along x and y
    products: torch.Tensor  # [N, 3, H, W]: means over channels of gx^2, gx gy, gy^2

    @classmethod
    def of(cls, before: torch.Tensor, after: torch.Tensor) -> "_Level":
        gx, gy = gradients = image_gradients(before)
        products = torch.stack([(gx * gx).mean(1), (gx * gy).mean(1), (gy * gy).mean(1)], dim=1)
        return cls(before, after, gradients, products)

    def halved(self) -> "_Level":
        return self.of(_halved(self.before), _halved(self.after))

    def bettered(self, motion: torch.Tensor, steps: int) -> torch.Tensor:
        height, width = self.before.shape[-2:]
        bound = motion.new_tensor([width / 2, height / 2]).view(1, 2, 1, 1)
        for _ in range(steps):
            step = self.step(warp(self.after, motion) - self.before, motion)
            motion = (motion + step).clamp(-bound, bound)
        return self.agreed(motion)

    def step(self, error: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
        """The damped Gauss-Newton step [N, 2, H, W] that ``error`` asks for at ``motion``, at most one cell
        along each axis. What is not visible has no say.
        """
        seen = visible(motion).to(error)
        right = _windowed(torch.stack([(g * error).mean(1) for g in self.gradients], dim=1) * seen)
        xx, xy, yy = _windowed(self.products * seen).unbind(1)
        xx, yy = xx + _DAMPING, yy + _DAMPING
        determinant = xx * yy - xy * xy
        x = (xy * right[:, 1] - yy * right[:, 0]) / determinant
        y = (xy * right[:, 0] - xx * right[:, 1]) / determinant
        return torch.stack([x, y], dim=1).clamp(-1, 1)

    def agreed(self, motion: torch.Tensor) -> torch.Tensor:
        """``motion`` averaged over the window, each cell as far as its texture tells both axes: what is
        hidden, flat, or a bare edge takes the motion of what is beside it.
        """
        xx, xy, yy = _windowed(self.products * visible(motion).to(motion)).unbind(1)
        trust = (xx * yy - xy * xy).clamp(min=0) / (xx + yy + _DAMPING) + _DAMPING**2
        return _windowed(motion * trust[:, None]) / _windowed(trust[:, None])


def warp(frames: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """``frames`` [N, C, H, W] looked up, bilinearly, at x + ``motion`` [N, 2, H, W] (cells; x, y).

    Outside the frame its border continues. A cell whose motion is exactly 0 keeps its value to the last bit.
    Differentiable in ``frames``; ``motion`` is taken as a constant.
    """
    height, width = frames.shape[-2:]
    # The backward pass of grid_sample reads beyond the frame where it is to look up what is not a number.
    motion = motion.detach().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    y = torch.arange(height, dtype=frames.dtype, device=frames.device)[:, None] + motion[:, 1]
    x = torch.arange(width, dtype=frames.dtype, device=frames.device) + motion[:, 0]
    # grid_sample counts from -1 to 1 over the outer edges of the border's cells.
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    found = F.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=False)
    still = (motion == 0).all(dim=1, keepdim=True)
    return torch.where(still, frames, found)


def visible(motion: torch.Tensor) -> torch.Tensor:
    """Bool [N, 1, H, W]: where x + ``motion`` [N, 2, H, W] lies between centres of cells of the frame."""
    height, width = motion.shape[-2:]
    y = torch.arange(height, dtype=motion.dtype, device=motion.device)[:, None] + motion[:, 1:]
    x = torch.arange(width, dtype=motion.dtype, device=motion.device) + motion[:, :1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def image_gradients(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences of ``frames`` [N, C, H, W] along x and y, per cell; the border continues."""
    wide = F.pad(frames, (1, 1, 0, 0), mode="replicate")
    tall = F.pad(frames, (0, 0, 1, 1), mode="replicate")
    return (wide[..., 2:] - wide[..., :-2]) / 2, (tall[..., 2:, :] - tall[..., :-2, :]) / 2


def _windowed(fields: torch.Tensor) -> torch.Tensor:
    for _ in range(_WINDOW_PASSES):
        fields = _blurred(fields)
    return fields


def _blurred(fields: torch.Tensor) -> torch.Tensor:
    """``fields`` [N, C, H, W] under the binomial [1 4 6 4 1] / 16 along both axes; the border continues."""
    channels = fields.shape[1]
    kernel = fields.new_tensor([1, 4, 6, 4, 1]).div(16).expand(channels, 1, 1, 5)
    fields = F.conv2d(F.pad(fields, (2, 2, 0, 0), mode="replicate"), kernel, groups=channels)
    return F.conv2d(F.pad(fields, (0, 0, 2, 2), mode="replicate"), kernel.transpose(2, 3), groups=channels)


def _halved(frames: torch.Tensor) -> torch.Tensor:
    height, width = frames.shape[-2:]
    return F.interpolate(_blurred(frames), size=((height + 1) // 2, (width + 1) // 2), mode="area")


def _enlarged(motion: torch.Tensor, coarse: torch.Size, fine: torch.Size) -> torch.Tensor:
    """``motion`` of a level as that of the next finer one, in its cells."""
    ratio = motion.new_tensor([fine[-1] / coarse[-1], fine[-2] / coarse[-2]]).view(1, 2, 1, 1)
    return F.interpolate(motion, size=fine[-2:], mode="bilinear", align_corners=False) * ratio

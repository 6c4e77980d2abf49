"""How evenly a clip moves and how well it keeps its look, as one differentiable number; and its use at seams.

Both parts are in the same unit, standard deviations of the clip's own brightness, so that they can be
added, and do not depend on the range of the values, the number of channels or the resolution.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ltx_ray.errors import UserError
from ltx_ray.sampling.fusion import crossfade
from ltx_ray.sampling.optical_flow import Flow, estimate_flow, visible, warp

# Differences below this, in standard deviations, count with their square, larger ones as they are:
# interpolation and the steps of 8-bit video stay below it.
_SOFT = 0.02
# Frames of less contrast than this share of the clip's are flat to the flow: noise is not made a texture.
_FLAT = 0.01
# Motion is estimated on frames of at most this longer side: on whole 4K frames it would cost 60 times more.
_FLOW_SIDE = 512
# Values of the frames that are worked on at a time.
_GROUP = 2**24

# At scale 1 a step goes this far towards where, were the loss linear, it would be 0. Most of a seam's loss
# is not to be had by moving its few latents; beyond a tenth the loss of ordinary seams rises again.
_SHARE = 0.1
# A step's RMS, in standard deviations of the sequence, is at most this times the scale.
_MOST = 0.1
# How often a step that would raise the loss is halved before it is left out.
_HALVINGS = 2
# Latents after the overlap that a seam's sequence shows: the first can still be moved, the others hold it.
_AFTER = 3


@dataclass(frozen=True, slots=True)
class CoherenceParts:
    """What each boundary t -> t + 1 of a clip adds, in standard deviations of the clip's brightness."""

    flow: torch.Tensor  # [B, T - 1]: unevenness of the motion; the first is 0, it has no motion before it
    appearance: torch.Tensor  # [B, T - 1]: what motion does not explain, and drift of mean and contrast

    def mean(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow and appearance of the whole, each []; 0 where there are too few frames (3 and 2) for them."""
        flow = self.flow[:, 1:]
        return (
            flow.mean() if flow.numel() else self.flow.sum(),
            self.appearance.mean() if self.appearance.numel() else self.appearance.sum(),
        )


class TemporalCoherenceLoss(nn.Module):
    """flow_weight x flow + appearance_weight x appearance of frames or latents [B, C, T, H, W] -> scalar [].

    Exactly 0 for a still clip and for one frame; docs/coherence.md has values of other clips.

    **flow**: with v the motion from frame t to t + 1 (``estimate_flow``, all channels), a = v(t + 1) at x +
    v(t) less v(t) is how a point's motion changes. What counts is the change of brightness that it makes,
    sqrt(a' S a), S the frame's structure tensor: motion is judged as far as there is something to be seen
    moving.

    **appearance**: frame t + 1 looked up along v against frame t, where it is visible, and the change of the
    frame's mean and of its standard deviation, each channel by itself.

    All differences go through a Charbonnier penalty (d, but d^2 near 0). Gradients reach the frames through
    the flow in the part flow only; in appearance the motion is taken as it is: else the loss could be
    lowered by a motion that avoids differences. The contrast that is divided by is a constant too.

    Weights are finite and >= 0, else UserError. Any real dtype; computed in float32, float64 for float64.
    Deterministic on the CPU; on CUDA the backward pass of grid_sample is not.
    """

    def __init__(self, flow_weight: float = 1.0, appearance_weight: float = 1.0) -> None:
        super().__init__()
        for name, weight in (("flow_weight", flow_weight), ("appearance_weight", appearance_weight)):
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"{name} must be a finite number of at least 0, got {weight!r}")
        self.flow_weight = float(flow_weight)
        self.appearance_weight = float(appearance_weight)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """The loss [] of ``frames`` [B, C, T, H, W]. Raises UserError if they are of another shape."""
        flow, appearance = self.parts(frames).mean()
        return self.flow_weight * flow + self.appearance_weight * appearance

    def parts(self, frames: torch.Tensor) -> CoherenceParts:
        """Both parts, unweighted, for each boundary of ``frames`` [B, C, T, H, W]: a metric, too."""
        _check(frames)
        working = _working(frames)
        moments = _Moments.of(frames)
        motions, textures, differences = [], [], []
        group = max(1, _GROUP // frames[:, :, 0].numel())
        for start in range(0, frames.shape[2] - 1, group):
            clip = frames[:, :, start : start + group + 1].to(working) / moments.contrast
            flow, difference = _pairs(clip)
            motions.append(_by_item(flow.motion, len(frames)))
            textures.append(_by_item(flow.texture, len(frames)))
            differences.append(difference)
        if not motions:
            return CoherenceParts(*(frames.new_zeros(len(frames), 0, dtype=working) for _ in range(2)))
        return CoherenceParts(
            flow=_unevenness(torch.cat(motions, dim=1), torch.cat(textures, dim=1)),
            appearance=torch.cat(differences, dim=1) + moments.drift(),
        )

    def extra_repr(self) -> str:
        return f"flow_weight={self.flow_weight}, appearance_weight={self.appearance_weight}"


def coherence_step(
    tail: torch.Tensor, head: torch.Tensor, scale: float, loss: TemporalCoherenceLoss | None = None
) -> torch.Tensor:
    """``head`` [1, C, T, H, W], the estimate of a window's clean latents, stepped towards a smoother seam.

    ``tail`` [1, C, n, H, W] (n >= 1, T > n) are the last latents of the window before; head i stands at the
    time of tail i. The loss is that of the sequence that is shown in the end: tail 0, the crossfade of tail
    i and head i for 0 < i < n, then head n to n + 2. Head 1 to n go down its gradient; head 0, which is
    dropped, and what comes after n stay as they are.

    ``scale`` >= 0; 0 gives ``head`` itself. 1 is a tenth of a Polyak step, loss / |gradient|^2 x gradient
    (Polyak 1987, for a loss whose least value is 0): it does not depend on the size of the latents, is
    meant to be taken at each of some 30 denoising steps, and fades as the seam becomes smooth. Its RMS is
    at most 0.1 x scale standard deviations. A step that would raise the loss is halved, or left out.
    Returns dtype and device of ``head``.

    Works under ``torch.inference_mode()``. Computed in float32 on the CPU: there, with the same number of
    threads, it gives the same bits each time. ``loss`` None: with both weights 1. Raises UserError if scale
    is negative or not finite, or the latents do not fit.
    """
    _check_seam(tail, head, scale)
    if scale == 0:
        return head
    loss = TemporalCoherenceLoss() if loss is None else loss
    n = tail.shape[2]
    with torch.inference_mode(False), torch.enable_grad():
        before = tail.detach().to("cpu", torch.float32).clone()
        own = head[:, :, : n + _AFTER].detach().to("cpu", torch.float32).clone()
        moved = own[:, :, 1 : n + 1].clone().requires_grad_()
        shown = _shown(before, moved, own)
        value = loss(shown)
        (gradient,) = torch.autograd.grad(value, moved)
        contrast = _Moments.of(shown.detach()).contrast
        stepped = moved.detach() - scale * _polyak(value.detach(), gradient, contrast)
    with torch.no_grad():
        for _ in range(1 + _HALVINGS):
            # Not finite, as where there is no gradient: no comparison holds, and the window stays as it is.
            if loss(_shown(before, stepped, own)) < value:
                return torch.cat([head[:, :, :1], stepped.to(head), head[:, :, n + 1 :]], dim=2)
            stepped = (stepped + moved.detach()) / 2
    return head


def _shown(tail: torch.Tensor, moved: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """The latents of a seam as ``fusion`` will show them, ``moved`` in the place of ``own`` 1 to n."""
    faded = crossfade(tail[:, :, 1:], moved[:, :, :-1])
    return torch.cat([tail[:, :, :1], faded, moved[:, :, -1:], own[:, :, moved.shape[2] + 1 :]], dim=2)


def _polyak(value: torch.Tensor, gradient: torch.Tensor, contrast: torch.Tensor) -> torch.Tensor:
    step = _SHARE * value / gradient.square().sum() * gradient
    return step * (_MOST * contrast / step.square().mean().sqrt()).clamp(max=1)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Mean and contrast of each frame, and of the whole."""

    mean: torch.Tensor  # [B, C, T]
    deviation: torch.Tensor  # [B, C, T]
    contrast: torch.Tensor  # [B, 1, 1, 1, 1], a constant

    @classmethod
    def of(cls, frames: torch.Tensor) -> "_Moments":
        working = _working(frames)
        # Frame by frame: a long clip is not held a second time in the wider dtype.
        pairs = [
            torch.var_mean(frames[:, :, t].to(working), dim=(2, 3), correction=0)
            for t in range(frames.shape[2])
        ]
        variance = torch.stack([pair[0] for pair in pairs], dim=2)
        mean = torch.stack([pair[1] for pair in pairs], dim=2)
        whole = (variance.mean(2) + mean.var(2, correction=0)).mean(1).sqrt()
        # What is left of a flat clip is rounding, which is no contrast.
        info = torch.finfo(working)
        least = 16 * info.eps * mean.square().mean((1, 2)).sqrt() + info.tiny**0.25
        contrast = torch.maximum(whole, least).detach()
        # Without the floor the root of a flat frame's variance would have an infinite derivative.
        floor = (_FLAT * contrast.view(-1, 1, 1)).square()
        return cls(mean, (variance + floor).sqrt(), contrast.view(-1, 1, 1, 1, 1))

    def drift(self) -> torch.Tensor:
        """[B, T - 1]: change of mean and of contrast, averaged over channels, in contrasts of the clip."""
        contrast = self.contrast[..., 0, 0]
        mean, deviation = (
            _soft((of.diff(dim=2) / contrast).square()).mean(1) for of in (self.mean, self.deviation)
        )
        return mean + deviation


def _pairs(clip: torch.Tensor) -> tuple[Flow, torch.Tensor]:
    """Flow of the neighbours in ``clip`` [B, C, k + 1, H, W] of contrast 1; what it leaves over [B, k]."""
    height, width = clip.shape[-2:]
    factor = -(-max(height, width) // _FLOW_SIDE)
    small = clip.transpose(1, 2).flatten(0, 1)
    if factor > 1:
        small = F.avg_pool2d(small, factor, ceil_mode=True, count_include_pad=False)
    small = _by_item(_levelled(small), len(clip))
    flow = estimate_flow(small[:, :-1].flatten(0, 1), small[:, 1:].flatten(0, 1))
    motion = flow.motion.detach()
    if factor > 1:
        larger = F.interpolate(motion * factor, scale_factor=factor, mode="bilinear", align_corners=False)
        motion = larger[..., :height, :width]
    before, after = (part.transpose(1, 2).flatten(0, 1) for part in (clip[:, :, :-1], clip[:, :, 1:]))
    difference = _soft((warp(after, motion) - before).square()).mean(1, keepdim=True)
    return flow, _seen_mean(difference, motion).view(len(clip), -1)


def _by_item(fields: torch.Tensor, items: int) -> torch.Tensor:
    """[B * k, ...] as [B, k, ...]."""
    return fields.reshape(items, -1, *fields.shape[1:])


def _levelled(frames: torch.Tensor) -> torch.Tensor:
    """``frames`` [N, C, H, W] with the mean of each channel 0 and a contrast of 1, frame by frame: a change
    of brightness is no motion."""
    centred = frames - frames.mean(dim=(2, 3), keepdim=True)
    variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
    return centred / (variance + _FLAT**2).sqrt()


def _unevenness(motion: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
    """How ``motion`` [B, k, 2, h, w] changes, seen in ``texture`` [B, k, 3, h, w]: [B, k], the first 0."""
    first = motion[:, :-1].flatten(0, 1)
    change = warp(motion[:, 1:].flatten(0, 1), first) - first
    xx, xy, yy = texture[:, :-1].flatten(0, 1).unbind(1)
    x, y = change.unbind(1)
    # Of a positive semi-definite form: below 0 only by rounding.
    square = (xx * x * x + 2 * xy * x * y + yy * y * y).clamp(min=0)
    uneven = _seen_mean(_soft(square)[:, None], first).view(len(motion), -1)
    return F.pad(uneven, (1, 0))


def _seen_mean(values: torch.Tensor, motion: torch.Tensor) -> torch.Tensor:
    """Mean [N] of ``values`` [N, 1, H, W] over the cells that ``motion`` does not take out of the frame."""
    seen = visible(motion.detach()).to(values)
    return (values * seen).sum((1, 2, 3)) / seen.sum((1, 2, 3)).clamp(min=1)


def _soft(square: torch.Tensor) -> torch.Tensor:
    """Charbonnier penalty sqrt(d^2 + e^2) - e of squared differences, in a form that is exactly 0 at 0."""
    return square / ((square + _SOFT**2).sqrt() + _SOFT)


def _working(frames: torch.Tensor) -> torch.dtype:
    return torch.float64 if frames.dtype == torch.float64 else torch.float32


def _check(frames: torch.Tensor) -> None:
    if frames.ndim != 5 or 0 in frames.shape or frames.is_complex():
        raise UserError(
            f"expected frames or latents of real numbers, [B, C, T, H, W] with at least one of each, "
            f"got {frames.dtype} of {tuple(frames.shape)}"
        )


def _check_seam(tail: torch.Tensor, head: torch.Tensor, scale: float) -> None:
    if not (math.isfinite(scale) and scale >= 0):
        raise UserError(f"the scale of a coherence step must be a finite number of at least 0, got {scale!r}")
    fits = tail.ndim == head.ndim == 5 and len(tail) == len(head) == 1
    alike = tail.shape[1:2] + tail.shape[3:] == head.shape[1:2] + head.shape[3:]
    if not fits or not alike or not 1 <= tail.shape[2] < head.shape[2]:
        raise UserError(
            f"expected a tail [1, C, n, H, W] and a window [1, C, T, H, W] of more than n latents, "
            f"got {tuple(tail.shape)} and {tuple(head.shape)}"
        )

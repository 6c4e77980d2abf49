"""The loss tells still, smooth, shaking, flickering and cut clips apart; a step down it smooths a seam."""

import math

import pytest
import torch
from test_sampling_optical_flow import texture

from ltx_ray.errors import UserError
from ltx_ray.sampling.coherence import TemporalCoherenceLoss, coherence_step
from ltx_ray.sampling.fusion import crossfade

LOSS = TemporalCoherenceLoss()
FRAMES, LATENTS = (3, 8, 48, 64), (128, 8, 8, 12)  # C, T, H, W


def clip(
    kind: str, strength: float = 0.0, shape: tuple[int, int, int, int] = FRAMES, speed: float = 0.6
) -> torch.Tensor:
    """[1, C, T, H, W]: a texture that moves evenly, with jitter (cells), flicker or a cut (share) on top."""
    channels, length, rows, columns = shape
    shortest = 8.0 if channels < 16 else 5.0
    shakes = 2 * torch.rand(length, 2, generator=torch.Generator().manual_seed(7)) - 1
    frames = []
    for t in range(length):
        right, down = (0.0, 0.0) if kind == "static" else (speed * t, -0.5 * speed * t)
        if kind == "jitter":
            right, down = right + strength * shakes[t, 0].item(), down + strength * shakes[t, 1].item()
        frame = texture(channels, rows, columns, right, down, shortest=shortest)
        if kind == "flicker":
            frame = frame + strength * (-1) ** t
        if kind == "cut" and t >= length // 2:
            other = texture(channels, rows, columns, right, down, seed=99, shortest=shortest)
            frame = (1 - strength) * frame + strength * other
        frames.append(frame)
    return torch.stack(frames, dim=2)


def shown(tail: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """The seam as the sampler shows it: up to three latents after the overlap."""
    n = tail.shape[2]
    return torch.cat(
        [tail[:, :, :1], crossfade(tail[:, :, 1:], head[:, :, 1:n]), head[:, :, n : n + 3]], dim=2
    )


@pytest.mark.parametrize("shape", [FRAMES, (1, 5, 31, 47), LATENTS, (128, 4, 4, 5), (4, 3, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_still_clip_loses_exactly_nothing(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    frame = torch.randn(2, shape[0], 1, *shape[2:], generator=torch.Generator().manual_seed(0)).to(dtype)
    assert LOSS(frame.expand(-1, -1, shape[1], -1, -1)).item() == 0
    assert LOSS(frame.repeat(1, 1, shape[1], 1, 1)).item() == 0


@pytest.mark.parametrize("shape", [FRAMES, LATENTS])
def test_still_is_below_smooth_is_below_shaking_flickering_and_cut_by_strength(
    shape: tuple[int, int, int, int],
) -> None:
    still, smooth = LOSS(clip("static", shape=shape)), LOSS(clip("smooth", shape=shape))
    assert still < smooth
    for kind, strengths in {
        "jitter": (0.2, 0.5, 1.0),
        "flicker": (0.05, 0.1, 0.2, 0.4),
        "cut": (0.25, 0.5, 1.0),
    }.items():
        losses = [LOSS(clip(kind, strength, shape)).item() for strength in strengths]
        assert losses == sorted(losses), kind
        assert losses[0] > 1.1 * smooth, kind
        assert losses[-1] > 2 * smooth, kind


def test_shaking_is_told_by_the_flow_and_flicker_by_the_appearance() -> None:
    smooth, jitter, flicker = (
        LOSS.parts(clip(kind, strength)).mean()
        for kind, strength in (("smooth", 0.0), ("jitter", 1.0), ("flicker", 0.2))
    )
    assert jitter[0] > 100 * smooth[0]
    assert jitter[1] < 2 * smooth[1]
    assert flicker[0] < 2 * smooth[0] + 1e-3
    assert flicker[1] > 20 * smooth[1]


def test_a_cut_shows_at_its_boundary() -> None:
    parts = LOSS.parts(clip("cut", 1.0))
    assert parts.appearance.argmax().item() == 3
    assert parts.flow[0, 0] == 0
    assert parts.flow.argmax().item() in (3, 4)


def test_a_faster_pan_is_still_smooth() -> None:
    slow, fast, shaking = (
        LOSS(clip(kind, strength, speed=speed))
        for kind, strength, speed in (("smooth", 0, 0.6), ("smooth", 0, 3.0), ("jitter", 1.0, 0.6))
    )
    assert slow < shaking / 10
    assert fast < shaking / 5


@pytest.mark.parametrize(("factor", "offset"), [(1000.0, 0.0), (0.01, 0.0), (0.5, 0.5), (-1.0, 3.0)])
def test_the_range_of_the_values_does_not_matter(factor: float, offset: float) -> None:
    frames = clip("jitter", 0.5)
    assert LOSS(factor * frames + offset).item() == pytest.approx(LOSS(frames).item(), rel=0.02)


def test_repeated_channels_and_items_change_nothing() -> None:
    frames = clip("jitter", 0.5)
    assert LOSS(frames.repeat(1, 2, 1, 1, 1)).item() == pytest.approx(LOSS(frames).item(), rel=1e-3)
    assert LOSS(frames.repeat(2, 1, 1, 1, 1)).item() == pytest.approx(LOSS(frames).item(), rel=1e-5)


def test_items_of_a_batch_are_judged_apart() -> None:
    jitter, flicker = clip("jitter", 0.5), clip("flicker", 0.2)
    both = LOSS.parts(torch.cat([jitter, flicker]))
    for item, alone in enumerate((LOSS.parts(jitter), LOSS.parts(flicker))):
        assert torch.allclose(both.flow[item], alone.flow[0], atol=1e-5)
        assert torch.allclose(both.appearance[item], alone.appearance[0], atol=1e-5)


def test_a_clip_worked_on_in_groups_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = clip("jitter", 0.5)
    whole = LOSS.parts(frames)
    monkeypatch.setattr("ltx_ray.sampling.coherence._GROUP", 3 * frames[:, :, 0].numel())
    grouped = LOSS.parts(frames)
    assert torch.allclose(whole.flow, grouped.flow, atol=1e-6)
    assert torch.allclose(whole.appearance, grouped.appearance, atol=1e-6)


def test_frames_larger_than_the_flow_is_estimated_on_are_told_apart_too() -> None:
    shape = (1, 4, 300, 530)
    still, smooth, jitter = (
        LOSS(clip(kind, strength, shape))
        for kind, strength in (("static", 0.0), ("smooth", 0.0), ("jitter", 1.0))
    )
    assert still == 0
    assert 0 < smooth < jitter / 4


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_clips_have_the_parts_that_they_can_have(length: int) -> None:
    parts = LOSS.parts(clip("jitter", 1.0)[:, :, :length])
    assert parts.flow.shape == parts.appearance.shape == (1, length - 1)
    flow, appearance = parts.mean()
    assert (flow > 0) == (length >= 3)
    assert (appearance > 0) == (length >= 2)


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    frames = clip("cut", 0.5)
    flow, appearance = LOSS.parts(frames).mean()
    weighted = TemporalCoherenceLoss(flow_weight=0.25, appearance_weight=3.0)(frames)
    assert weighted.item() == pytest.approx((0.25 * flow + 3 * appearance).item())
    assert TemporalCoherenceLoss(0.0, 0.0)(frames) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["smooth", "jitter", "flicker", "cut"])
def test_every_frame_has_a_finite_gradient(kind: str, dtype: torch.dtype) -> None:
    frames = clip(kind, 0.5).to(dtype).requires_grad_()
    value = LOSS(frames)
    value.backward()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert frames.grad is not None
    assert frames.grad.dtype == dtype
    assert torch.isfinite(frames.grad).all()
    assert (frames.grad.abs().amax(dim=(0, 1, 3, 4)) > 0).all()


@pytest.mark.parametrize(
    "frames", [torch.zeros(1, 3, 4, 9, 9), torch.full((1, 3, 4, 9, 9), 5.0), clip("static")]
)
def test_nothing_to_be_mended_has_a_gradient_of_zero(frames: torch.Tensor) -> None:
    frames = frames.clone().requires_grad_()
    LOSS(frames).backward()
    assert torch.equal(frames.grad, torch.zeros_like(frames))


def test_flat_frames_of_changing_brightness_have_a_finite_gradient() -> None:
    frames = torch.tensor([0.0, 1.0, 0.0, 2.0]).view(1, 1, 4, 1, 1).repeat(1, 3, 1, 9, 9).requires_grad_()
    value = LOSS(frames)
    value.backward()
    assert value > 0
    assert torch.isfinite(frames.grad).all()
    assert frames.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("weights", "kind"), [((1.0, 0.0), "jitter"), ((0.0, 1.0), "flicker"), ((1.0, 1.0), "jitter")]
)
def test_going_down_the_gradient_mends_the_clip(weights: tuple[float, float], kind: str) -> None:
    loss = TemporalCoherenceLoss(*weights)
    frames = clip(kind, 0.5)
    before = loss(frames).item()
    for _ in range(10):
        frames = frames.detach().requires_grad_()
        value = loss(frames)
        (gradient,) = torch.autograd.grad(value, frames)
        frames = frames - 0.05 * value.detach() / gradient.square().sum() * gradient
    assert loss(frames).item() < 0.8 * before


def test_the_gradient_of_the_appearance_is_its_derivative() -> None:
    """In the direction of a flicker, where neither motion nor the constant contrast takes part."""
    loss = TemporalCoherenceLoss(0.0, 1.0)
    frames = clip("flicker", 0.3, (2, 4, 16, 20)).double()
    direction = ((-1.0) ** torch.arange(4)).view(1, 1, 4, 1, 1).expand_as(frames)
    leaf = frames.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    slope = (leaf.grad * direction).sum().item()
    contrast = frames.std(dim=(0, 2, 3, 4), correction=0).square().mean().sqrt()
    # The quotient of differences, each in the contrast of the middle.
    higher, lower = (
        loss(frames + e * direction)
        * (frames + e * direction).std(dim=(0, 2, 3, 4), correction=0).square().mean().sqrt()
        / contrast
        for e in (1e-3, -1e-3)
    )
    assert slope == pytest.approx(((higher - lower) / 2e-3).item(), rel=0.02)


def test_the_loss_and_its_gradient_are_the_same_each_time() -> None:
    frames = [clip("cut", 0.5).requires_grad_() for _ in range(2)]
    values = [LOSS(one) for one in frames]
    for value in values:
        value.backward()
    assert torch.equal(values[0], values[1])
    assert torch.equal(frames[0].grad, frames[1].grad)


def test_frames_that_are_not_numbers_have_a_loss_that_is_none_either() -> None:
    frames = clip("smooth")
    frames[0, 1, 3, 5, 5] = math.nan
    value = LOSS(frames.requires_grad_())
    value.backward()
    assert value.isnan()


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 0, 8, 8), (1, 3, 2, 8)])
def test_what_is_no_clip_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\[B, C, T, H, W\].*got torch.float32 of"):
        LOSS(torch.zeros(shape))


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_weights_that_are_no_weights_are_refused(weight: float) -> None:
    with pytest.raises(UserError, match="appearance_weight must be a finite number of at least 0, got"):
        TemporalCoherenceLoss(appearance_weight=weight)


def seam(
    kind: str, overlap: int, shape: tuple[int, int, int, int] = LATENTS
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tail of a smooth take, and another take of the same times that does not quite follow it."""
    draw = torch.Generator().manual_seed(3)
    smooth = clip("smooth", 0.0, shape)
    head = {
        "noisy": smooth + 0.3 * torch.randn(smooth.shape, generator=draw),
        "shaking": clip("jitter", 1.0, shape),
        "random": torch.randn(smooth.shape, generator=draw),
    }[kind]
    return smooth[:, :, :overlap], head


@pytest.mark.parametrize("kind", ["noisy", "shaking", "random"])
@pytest.mark.parametrize("overlap", [1, 3, 5])
def test_the_seam_that_is_shown_becomes_smoother_with_scale(kind: str, overlap: int) -> None:
    tail, head = seam(kind, overlap)
    losses = [
        LOSS(shown(tail, coherence_step(tail, head, scale, LOSS))).item() for scale in (0, 0.25, 0.5, 1)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.995 * losses[0]


def test_steps_add_up_and_leave_the_picture_what_it_is() -> None:
    tail, head = seam("shaking", 3)
    stepped = head
    for _ in range(30):
        stepped = coherence_step(tail, stepped, 1.0, LOSS)
    assert LOSS(shown(tail, stepped)) < 0.9 * LOSS(shown(tail, head))
    assert (stepped - head)[:, :, 1:4].square().mean().sqrt() < 0.4 * head.std()


def test_only_what_the_seam_shows_of_the_overlap_is_moved() -> None:
    tail, head = seam("noisy", 3)
    stepped = coherence_step(tail, head, 1.0, LOSS)
    assert torch.equal(stepped[:, :, 0], head[:, :, 0])
    assert torch.equal(stepped[:, :, 4:], head[:, :, 4:])
    assert all(not torch.equal(stepped[:, :, i], head[:, :, i]) for i in (1, 2, 3))


@pytest.mark.parametrize("shape", [(8, 8, 2, 3), (128, 8, 4, 5), (4, 4, 1, 1)])
@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_no_step_makes_a_seam_worse(shape: tuple[int, int, int, int], scale: float) -> None:
    tail, head = seam("random", 3, shape)
    assert LOSS(shown(tail, coherence_step(tail, head, scale, LOSS))) <= LOSS(shown(tail, head))


def test_scale_0_is_the_identity() -> None:
    tail, head = seam("noisy", 3)
    assert torch.equal(coherence_step(tail, head, 0.0, LOSS), head)


def test_a_smooth_seam_is_left_alone() -> None:
    still = clip("static", shape=LATENTS)
    assert torch.equal(coherence_step(still[:, :, :3], still, 1.0, LOSS), still)


def test_the_size_of_the_latents_does_not_matter() -> None:
    tail, head = seam("noisy", 3)
    small, large = (coherence_step(factor * tail, factor * head, 1.0, LOSS) / factor for factor in (0.1, 50))
    assert torch.allclose(small, large, atol=1e-3)
    assert not torch.allclose(small, head, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_in_inference_mode_is_the_same_step(dtype: torch.dtype) -> None:
    tail, head = (part.to(dtype) for part in seam("noisy", 3))
    outside = coherence_step(tail, head, 1.0, LOSS)
    with torch.inference_mode():
        inside = coherence_step(tail.clone(), head.clone(), 1.0, LOSS) + 0
    assert outside.dtype == dtype
    assert not outside.requires_grad
    assert torch.equal(inside, outside)
    assert not torch.equal(inside, head)


def test_latents_that_are_not_numbers_are_left_to_those_who_check_them() -> None:
    tail, head = seam("noisy", 3)
    head[0, 0, 1, 0, 0] = math.nan
    assert torch.equal(coherence_step(tail, head, 1.0, LOSS).isnan(), head.isnan())


@pytest.mark.parametrize("scale", [-0.5, math.nan, math.inf])
def test_a_scale_that_is_no_scale_is_refused(scale: float) -> None:
    tail, head = seam("noisy", 3)
    with pytest.raises(UserError, match="must be a finite number of at least 0, got"):
        coherence_step(tail, head, scale, LOSS)


@pytest.mark.parametrize(
    "tail", [(1, 128, 8, 8, 12), (1, 64, 3, 8, 12), (2, 128, 3, 8, 12), (1, 128, 3, 8, 8)]
)
def test_a_tail_that_does_not_fit_is_refused(tail: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"expected a tail \[1, C, n, H, W\]"):
        coherence_step(torch.zeros(tail), torch.zeros(1, *LATENTS), 1.0, LOSS)

"""The flow of a translated texture is that translation, on frames and on small grids of latents."""

import math

import pytest
import torch

from ltx_ray.sampling.optical_flow import estimate_flow, image_gradients, visible, warp


def texture(
    channels: int,
    rows: int,
    columns: int,
    right: float = 0.0,
    down: float = 0.0,
    seed: int = 1,
    shortest: float = 8.0,
) -> torch.Tensor:
    """[1, C, H, W] of contrast 1: waves of at least ``shortest`` cells, moved to the right and down."""
    draw = torch.Generator().manual_seed(seed)
    length = shortest * 2 ** (3 * torch.rand(channels, 12, 1, 1, generator=draw))
    angle, phase = 2 * math.pi * torch.rand(2, channels, 12, 1, 1, generator=draw)
    y = torch.arange(rows).view(-1, 1) - down
    x = torch.arange(columns) - right
    waves = torch.sin(2 * math.pi / length * (angle.cos() * x + angle.sin() * y) + phase)
    return (waves.sum(1) / math.sqrt(6))[None]


@pytest.mark.parametrize(
    ("channels", "rows", "columns", "tolerance"),
    [(3, 64, 96, 0.06), (1, 64, 96, 0.2), (3, 45, 61, 0.08), (128, 16, 24, 0.05), (128, 4, 5, 0.1)],
)
@pytest.mark.parametrize("motion", [(1.0, 0.0), (0.3, -0.2), (-0.7, 1.4)])
def test_a_translated_texture_gives_its_translation(
    channels: int, rows: int, columns: int, tolerance: float, motion: tuple[float, float]
) -> None:
    shortest = 8.0 if channels < 16 else 5.0
    before = texture(channels, rows, columns, shortest=shortest)
    after = texture(channels, rows, columns, *motion, shortest=shortest)
    found = estimate_flow(before, after).motion
    error = (found - torch.tensor(motion).view(1, 2, 1, 1)).norm(dim=1, keepdim=True)
    seen = visible(found)
    assert error[seen].mean() < tolerance
    # The sign that warp wants, too: the second frame, looked up along the flow, is the first.
    left, moved = (((frames - before) * seen).abs().mean() for frames in (warp(after, found), after))
    assert left < 0.5 * moved


@pytest.mark.parametrize("motion", [(4.0, 3.0), (-9.0, 5.0), (14.0, -10.0)])
def test_large_motion_is_found_by_the_pyramid(motion: tuple[float, float]) -> None:
    found = estimate_flow(texture(3, 96, 128), texture(3, 96, 128, *motion)).motion
    error = (found - torch.tensor(motion).view(1, 2, 1, 1)).norm(dim=1, keepdim=True)
    assert error[visible(found)].mean() < 0.3


def test_two_things_that_move_apart_have_two_motions() -> None:
    left, right = (texture(3, 64, 128, seed=seed) for seed in (1, 2))
    moved_left, moved_right = texture(3, 64, 128, 0, -2, seed=1), texture(3, 64, 128, 0, 2, seed=2)
    is_left = torch.arange(128) < 64
    flow = estimate_flow(torch.where(is_left, left, right), torch.where(is_left, moved_left, moved_right))
    assert flow.motion[0, 1, 8:-8, 8:52].median() == pytest.approx(-2, abs=0.1)
    assert flow.motion[0, 1, 8:-8, 76:-8].median() == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("shape", [(2, 3, 31, 47), (1, 128, 4, 5), (1, 8, 2, 3), (1, 4, 1, 1)])
def test_equal_frames_do_not_move_at_all(shape: tuple[int, ...]) -> None:
    frames = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(estimate_flow(frames, frames.clone()).motion, torch.zeros(shape[0], 2, *shape[2:]))


def test_flat_frames_do_not_move() -> None:
    flat = torch.zeros(1, 3, 20, 20)
    assert torch.equal(estimate_flow(flat, flat + 0.5).motion, torch.zeros(1, 2, 20, 20))


def test_without_a_counterpart_the_flow_is_bounded_by_half_the_frame() -> None:
    flow = estimate_flow(texture(3, 48, 64, seed=1), texture(3, 48, 64, seed=2)).motion
    assert torch.isfinite(flow).all()
    # The last step, which is differentiated, may go one cell further.
    assert flow[:, 0].abs().max() <= 64 / 2 + 1
    assert flow[:, 1].abs().max() <= 48 / 2 + 1


def test_the_gradient_is_that_of_the_motion() -> None:
    """A shift of ``after`` by d changes the motion by d: the gradient along it must be about 1."""
    before = texture(3, 48, 64)
    after = texture(3, 48, 64, 0.4, 0.0).requires_grad_()
    estimate_flow(before, after).motion[:, 0, 8:-8, 8:-8].mean().backward()
    assert after.grad is not None
    gx, gy = image_gradients(after.detach())
    # To the right by 1: after(x - 1) is after - gx. Down by 1 should leave the x motion as it is.
    assert -(after.grad * gx).sum() == pytest.approx(1, abs=0.15)
    assert -(after.grad * gy).sum() == pytest.approx(0, abs=0.15)


def test_a_warp_by_whole_cells_moves_cells_and_continues_the_border() -> None:
    frames = torch.arange(12.0).view(1, 1, 3, 4)
    found = warp(frames, torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4))
    expected = [[1.0, 2.0, 3.0, 3.0], [1.0, 2.0, 3.0, 3.0], [5.0, 6.0, 7.0, 7.0]]
    assert torch.allclose(found[0, 0], torch.tensor(expected), atol=1e-5)


def test_what_leaves_the_frame_is_not_visible() -> None:
    seen = visible(torch.tensor([1.5, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 4))
    assert seen[0, 0].tolist() == [[True, True, False, False]] * 2


def test_the_flow_is_the_same_each_time() -> None:
    before, after = texture(3, 48, 64), texture(3, 48, 64, 1.3, 0.4)
    assert torch.equal(estimate_flow(before, after).motion, estimate_flow(before, after).motion)

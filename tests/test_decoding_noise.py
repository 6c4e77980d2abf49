"""Noise belongs to the place in the shot: any crop of it is a crop of the whole."""

import threading

import pytest
import torch

from ltx_ray.decoding.noise import InjectedNoise, decode_noise
from ltx_ray.errors import ModelError
from ltx_ray.types import Interval

WHOLE = Interval(in_start=0, in_stop=6, out_start=0, out_stop=192, ramp_in=0, ramp_out=0, crop=0)
PART = Interval(in_start=2, in_stop=5, out_start=96, out_stop=128, ramp_in=0, ramp_out=0, crop=32)


def test_decode_noise_of_a_tile_is_the_crop_of_the_whole() -> None:
    whole = decode_noise(3, 16, 6, (0, 5), (0, 4), (0, 6))
    part = decode_noise(3, 16, 6, (2, 4), (1, 4), (2, 5))
    assert torch.equal(part, whole[:, :, 2:4, 1:4, 2:5])
    assert not torch.equal(decode_noise(4, 16, 6, (0, 5), (0, 4), (0, 6)), whole)


def test_decode_noise_is_standard_normal_and_never_repeats() -> None:
    noise = decode_noise(0, 128, 40, (0, 4), (0, 10), (0, 40))
    assert noise.mean().abs() < 0.01
    assert (noise.std() - 1).abs() < 0.01
    rows = noise.permute(0, 2, 3, 1, 4).reshape(40, -1)
    correlation = torch.corrcoef(rows) - torch.eye(40)
    assert correlation.abs().max() < 0.08


def test_injected_noise_of_a_tile_is_the_crop_at_every_scale_and_draw() -> None:
    with InjectedNoise(3, 6, 6, WHOLE, WHOLE):
        whole = [torch.randn((6 * scale, 6 * scale), dtype=torch.float64) for scale in (1, 2, 2, 4)]
    with InjectedNoise(3, 6, 6, PART, WHOLE):
        rows = [torch.randn(torch.Size((3 * scale, 6 * scale))) for scale in (1, 2, 2, 4)]
    for scale, of_whole, of_rows in zip((1, 2, 2, 4), whole, rows, strict=True):
        assert of_whole.dtype == torch.float64
        assert torch.equal(of_rows, of_whole[2 * scale : 5 * scale].float())
    assert not torch.equal(whole[1], whole[2])


def test_only_this_threads_randn_is_answered_and_only_inside() -> None:
    with InjectedNoise(3, 6, 6, WHOLE, WHOLE):
        inside = torch.randn((6, 6))
        elsewhere: list[torch.Tensor] = []
        thread = threading.Thread(target=lambda: elsewhere.append(torch.randn(5)))
        thread.start()
        thread.join()
    assert elsewhere[0].shape == (5,)
    torch.manual_seed(0)
    outside = torch.randn((6, 6))
    torch.manual_seed(0)
    assert torch.equal(torch.randn((6, 6)), outside)
    assert not torch.equal(inside, outside)


def test_a_draw_that_is_no_plane_of_the_tile_is_refused() -> None:
    with (
        InjectedNoise(3, 6, 6, PART, WHOLE),
        pytest.raises(ModelError, match=r"3 x 6 cells .* got a draw of"),
    ):
        torch.randn((7, 13))

"""Later windows are fitted as diffusers' Long pipeline fits them, and seams have the right length."""

import pytest
import torch
from diffusers.pipelines.ltx.pipeline_ltx_i2v_long_multi_prompt import (
    adain_normalize_latents,
    linear_overlap_fuse,
)

from ltx_ray.sampling.fusion import adain, channel_statistics, crossfade


def latents(seed: int, t: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn((1, 4, t, 3, 2), generator=torch.Generator().manual_seed(seed)) * scale + seed


def test_statistics_are_per_channel_and_unbiased() -> None:
    values = torch.tensor([[1.0, 3.0], [10.0, 10.0]]).view(1, 2, 2, 1, 1)
    mean, std = channel_statistics(values)
    assert mean.tolist() == [2.0, 10.0]
    assert std.tolist() == pytest.approx([2**0.5, 0.0])


def test_a_single_value_has_no_deviation_instead_of_nan() -> None:
    mean, std = channel_statistics(torch.full((1, 2, 1, 1, 1), 3.0))
    assert (mean.tolist(), std.tolist()) == ([3.0, 3.0], [0.0, 0.0])


@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_adain_is_that_of_the_long_pipeline(factor: float) -> None:
    own, reference = latents(1, 5), latents(2, 7, scale=3.0)
    ours = adain(own, *channel_statistics(reference), factor)
    assert torch.allclose(ours, adain_normalize_latents(own, reference, factor), atol=1e-6)


def test_adain_at_full_strength_matches_the_statistics() -> None:
    mean, std = channel_statistics(latents(2, 7, scale=3.0))
    got_mean, got_std = channel_statistics(adain(latents(1, 5), mean, std, 1.0))
    assert torch.allclose(got_mean, mean, atol=1e-5)
    assert torch.allclose(got_std, std, atol=1e-5)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_crossfade_is_that_of_the_long_pipeline(n: int) -> None:
    before, after = latents(1, n), latents(2, n)
    assert torch.equal(crossfade(before, after), linear_overlap_fuse(before, after, n))


def test_one_shared_latent_is_halved() -> None:
    before, after = latents(1, 1), latents(2, 1)
    assert torch.allclose(crossfade(before, after), (before + after) / 2)


def test_nothing_shared_is_nothing_to_fade() -> None:
    assert crossfade(latents(1, 0), latents(2, 0)).shape == (1, 4, 0, 3, 2)

"""The loop of one window: what is held stays, what is free does not notice, caches do not outlive it."""

import torch
from diffusers import FirstBlockCacheConfig, LTXVideoTransformer3DModel

from ltx_ray.planning.geometry import Ratios
from ltx_ray.sampling.coordinates import window_coordinates
from ltx_ray.sampling.guidance import Condition, Guidance
from ltx_ray.sampling.window import Known, denoise_window

SHAPE = (1, 8, 4, 2, 3)
SIGMAS = (1.0, 0.7, 0.3, 0.0)


def make_transformer() -> LTXVideoTransformer3DModel:
    torch.manual_seed(0)
    return LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=3,
        caption_channels=16,
    ).eval()


def guidance() -> Guidance:
    text, nothing = torch.randn(2, 1, 8, 16, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 8, dtype=torch.bool)
    return Guidance(Condition("cond", text, mask), Condition("uncond", nothing, mask), 3.0)


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def denoise(
    transformer: LTXVideoTransformer3DModel, start: torch.Tensor, known: Known | None
) -> torch.Tensor:
    coordinates = window_coordinates(4, 2, 3, 0, 0, 24.0, "causal", Ratios(8, 32))
    return denoise_window(transformer, start, known, coordinates, SIGMAS, guidance())


def test_latents_without_freedom_stay_and_steer_the_others() -> None:
    transformer, values = make_transformer(), noise(9)
    freedom = torch.tensor([0.0, 1.0, 1.0, 1.0])
    held = denoise(transformer, noise(0), Known(values, freedom))
    assert torch.equal(held[:, :, 0], values[:, :, 0])
    steered = denoise(transformer, noise(0), Known(values + 1, freedom))
    assert not torch.allclose(held[:, :, 1:], steered[:, :, 1:], atol=1e-3)


def test_full_freedom_is_as_if_nothing_were_known() -> None:
    """One timestep for all tokens, the cheap way, and one for each token are the same computation."""
    transformer = make_transformer()
    free = denoise(transformer, noise(0), Known(noise(9), torch.ones(4)))
    assert torch.allclose(free, denoise(transformer, noise(0), None), atol=1e-5)


def test_half_freedom_lies_between() -> None:
    transformer, values = make_transformer(), noise(9)
    free, half = (
        denoise(transformer, noise(0), Known(values, torch.tensor([freedom, 1.0, 1.0, 1.0])))
        for freedom in (1.0, 0.5)
    )
    distance = [(latents - values)[:, :, 0].abs().mean() for latents in (half, free)]
    assert 0 < distance[0] < 0.5 * distance[1]


def test_a_cache_forgets_one_window_before_the_next() -> None:
    """The result must not depend on which window the same actor did before."""
    transformer = make_transformer()
    fresh = denoise(transformer, noise(0), None)
    transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))
    cached = denoise(transformer, noise(0), None)
    denoise(transformer, noise(5), None)
    again = denoise(transformer, noise(0), None)
    assert not torch.equal(fresh, cached), "the cache must have been at work"
    assert torch.equal(again, cached)

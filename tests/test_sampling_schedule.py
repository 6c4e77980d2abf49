"""Noise levels are those of LTXPipeline's scheduler, or those given; they always fall to 0."""

from itertools import pairwise

import numpy as np
import pytest
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_ray.errors import ModelError, UserError
from ltx_ray.sampling.schedule import sigma_schedule

# As in Lightricks/LTX-Video.
DYNAMIC = {
    "use_dynamic_shifting": True,
    "base_image_seq_len": 1024,
    "max_image_seq_len": 4096,
    "base_shift": 0.95,
    "max_shift": 2.05,
    "shift_terminal": 0.1,
}


@pytest.mark.parametrize("config", [DYNAMIC, {"shift": 3.0}, {}])
@pytest.mark.parametrize("tokens", [6, 1500, 20_000])
def test_the_levels_are_those_of_the_pipelines_scheduler(config: dict[str, object], tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    mu = calculate_shift(
        tokens,
        scheduler.config.base_image_seq_len,
        scheduler.config.max_image_seq_len,
        scheduler.config.base_shift,
        scheduler.config.max_shift,
    )
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 20, 20), mu=mu)
    assert sigma_schedule(scheduler.config, 20, tokens, None) == tuple(scheduler.sigmas.tolist())


@given(steps=st.integers(1, 1000), tokens=st.integers(1, 200_000), config=st.sampled_from([DYNAMIC, {}]))
@settings(deadline=None, max_examples=60)
def test_levels_fall_from_1_to_0_in_the_steps_asked_for(
    steps: int, tokens: int, config: dict[str, object]
) -> None:
    sigmas = sigma_schedule(config, steps, tokens, None)
    assert len(sigmas) == steps + 1
    assert sigmas[0] == pytest.approx(1.0)
    assert sigmas[-1] == 0.0
    assert all(a > b for a, b in pairwise(sigmas))


def test_more_tokens_keep_the_noise_higher() -> None:
    few, many = (sigma_schedule(DYNAMIC, 10, tokens, None) for tokens in (1024, 4096))
    assert all(a < b for a, b in zip(few[1:-2], many[1:-2], strict=True))


def test_4k_has_levels_where_the_pipeline_has_none() -> None:
    """130,560 tokens: nearly the levels of infinitely many tokens, 1 - 0.9 (1/t - 1) / (1/t_n - 1)."""
    linear = np.linspace(1.0, 1 / 20, 20)
    limit = 1 - 0.9 * (1 / linear - 1) / (1 / linear[-1] - 1)
    assert sigma_schedule(DYNAMIC, 20, 130_560, None)[:-1] == pytest.approx(limit, abs=0.005)


def test_explicit_levels_are_not_shifted_again() -> None:
    assert sigma_schedule(DYNAMIC, 50, 4096, (1.0, 0.9, 0.25)) == (1.0, 0.9, 0.25, 0.0)
    assert sigma_schedule(DYNAMIC, 50, 4096, [0.8, 0.0]) == (0.8, 0.0)


@pytest.mark.parametrize("explicit", [(), (0.0,), (0.5, 0.5), (0.2, 0.4), (1.5, 0.5), (float("nan"), 0.5)])
def test_explicit_levels_that_do_not_fall_are_refused(explicit: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="falling from at most 1 to 0, got"):
        sigma_schedule({}, 50, 4096, explicit)


def test_no_steps_are_refused() -> None:
    with pytest.raises(UserError, match="at least 1, got 0"):
        sigma_schedule({}, 0, 4096, None)


def test_a_scheduler_of_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ModelError, match="fall from at most 1 to 0"):
        sigma_schedule({"invert_sigmas": True}, 5, 4096, None)

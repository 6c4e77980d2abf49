"""Guidance is u + w (c - u); a pass that cannot matter is not run."""

import torch

from ltx_ray.sampling.guidance import Condition, Guidance


def condition(name: str) -> Condition:
    return Condition(name, torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool))


class Passes:
    """Stands where the transformer stands: answers per pass, and remembers which were run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def __call__(self, condition: Condition) -> torch.Tensor:
        self.ran.append(condition.name)
        return torch.full((1, 4, 2), 2.0 if condition.name == "cond" else 0.5, dtype=torch.bfloat16)


def test_prediction_goes_beyond_the_text_by_the_scale() -> None:
    passes = Passes()
    prediction = Guidance(condition("cond"), condition("uncond"), 3.0).predict(passes)
    assert torch.equal(prediction, torch.full((1, 4, 2), 0.5 + 3.0 * (2.0 - 0.5)))
    assert sorted(passes.ran) == ["cond", "uncond"]


def test_the_unconditional_pass_runs_only_where_it_matters() -> None:
    passes = Passes()
    prediction = Guidance(condition("cond"), condition("uncond"), 1.0).predict(passes)
    assert torch.equal(prediction, torch.full((1, 4, 2), 2.0))
    assert passes.ran == ["cond"]


def test_scale_0_is_the_unconditional_prediction() -> None:
    prediction = Guidance(condition("cond"), condition("uncond"), 0.0).predict(Passes())
    assert torch.equal(prediction, torch.full((1, 4, 2), 0.5))

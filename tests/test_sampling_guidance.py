"""Guidance is u + w (c - u) + (s - 1) (c - n); a pass that cannot matter is not run."""

from dataclasses import replace

import pytest
import torch

from ltx_ray.models.audio.alignment import AudioContext
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


U, C, N = 0.5, 2.0, -1.25  # unconditional, conditional, and conditional without sound


class HearingPasses:
    """As ``Passes``, for a model that hears."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, bool]] = []

    def __call__(self, condition: Condition) -> torch.Tensor:
        self.ran.append((condition.name, condition.audio is not None))
        heard = C if condition.name == "cond" else U
        return torch.full((1, 4, 2), N if condition.audio is None else heard)


def sound() -> AudioContext:
    return AudioContext(torch.zeros(1, 3, 2), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("scale", "audio_scale", "passes"),
    [
        (1.0, 1.0, [("cond", True)]),
        (3.0, 1.0, [("cond", True), ("uncond", True)]),
        (1.0, 2.5, [("cond", True), ("cond_silent", False)]),
        (3.0, 2.5, [("cond", True), ("uncond", True), ("cond_silent", False)]),
        (3.0, 0.0, [("cond", True), ("uncond", True), ("cond_silent", False)]),
    ],
)
def test_audio_guidance_adds_to_the_text_guidance_in_as_few_passes_as_can_be(
    scale: float, audio_scale: float, passes: list[tuple[str, bool]]
) -> None:
    conditional, unconditional = (replace(condition(name), audio=sound()) for name in ("cond", "uncond"))
    ran = HearingPasses()
    prediction = Guidance(conditional, unconditional, scale, audio_scale).predict(ran)
    wanted = U + scale * (C - U) + (audio_scale - 1) * (C - N)
    assert torch.equal(prediction, torch.full((1, 4, 2), wanted))
    assert ran.ran == passes


def test_the_pass_without_sound_has_the_conditional_text_and_a_name_of_its_own() -> None:
    """Else it would be another prediction, or share the conditional pass's cache."""
    conditional = replace(condition("cond"), embeds=torch.ones(1, 2, 3), audio=sound())
    seen: list[Condition] = []

    def forward(given: Condition) -> torch.Tensor:
        seen.append(given)
        return torch.zeros(1, 4, 2)

    Guidance(conditional, replace(condition("uncond"), audio=sound()), 1.0, 2.0).predict(forward)
    assert seen[1].embeds is conditional.embeds
    assert seen[1].mask is conditional.mask
    assert seen[1].name != seen[0].name


@pytest.mark.parametrize(("scale", "names"), [(1.0, ["cond"]), (3.0, ["cond", "uncond"])])
def test_without_sound_there_is_no_pass_for_audio_guidance(scale: float, names: list[str]) -> None:
    passes = Passes()
    silent = Guidance(condition("cond"), condition("uncond"), scale, 3.0).predict(passes)
    assert passes.ran == names
    assert torch.equal(silent, Guidance(condition("cond"), condition("uncond"), scale).predict(passes))

"""Profiles: what tasks take, fitted to what they took."""

import json
import random

import pytest
from planned import settings_of, shot_of

from ltx_ray.errors import ConfigError, UserError
from ltx_ray.planning.fitting import Samples, Took, collect, fit, fit_stage
from ltx_ray.planning.plan import plan_shot
from ltx_ray.planning.timing import Profile, StageTime, tokens
from ltx_ray.types import ShotPlan, Stage

TRUE = Profile(
    device="card",
    model="m",
    stages={
        Stage.CONDITION: StageTime(base=0.4),
        Stage.DENOISE: StageTime(rate=2e-4, quadratic=3e-8),
        Stage.DECODE: StageTime(base=0.2, rate=1e-3),
        Stage.ASSEMBLE: StageTime(rate=1e-8),
        Stage.FINISH: StageTime(base=0.3, rate=1e-4),
    },
)
SIZES = [
    (97, 256, 256),
    (400, 512, 320),
    (200, 1280, 704),
    (900, 768, 512),
    (49, 1920, 1088),
    (600, 320, 704),
]


def plans() -> list[ShotPlan]:
    return [plan_shot(shot_of(*size), settings_of(tile_size=512)) for size in SIZES]


def took(plan: ShotPlan, noise: random.Random | None = None, times: float = 1.0) -> Took:
    """What a shot would have taken by TRUE, give or take a tenth."""

    def seconds(task):
        return times * TRUE.seconds(task, plan.frame) * (noise.uniform(0.9, 1.1) if noise else 1.0)

    stages = dict.fromkeys(Stage, 0.0)
    chunks = {}
    for task in plan.tasks:
        stages[task.key.stage] += seconds(task)
        if task.key.stage is Stage.DENOISE:
            chunks[task.key.index] = seconds(task)
    return Took(plan, chunks, stages)


def errors(profile: Profile) -> list[float]:
    """How far off the profile is for each task, relative."""
    return [
        abs(profile.seconds(task, plan.frame) / TRUE.seconds(task, plan.frame) - 1)
        for plan in plans()
        for task in plan.tasks
    ]


def test_exact_times_give_their_coefficients() -> None:
    found = fit(collect(map(took, plans())), "card", "m")
    assert max(errors(found)) < 1e-6
    assert found.stages[Stage.DENOISE].quadratic == pytest.approx(3e-8)
    assert found.stages[Stage.DENOISE].base == 0.0
    assert all(time.error < 1e-6 for time in found.stages.values())


def test_noise_and_a_few_wild_times_do_not_mislead() -> None:
    noise = random.Random(1)
    shots = [took(plan, noise) for _ in range(10) for plan in plans()]
    shots += [took(plan, times=30.0) for plan in plans()[:3]]  # beside a program that took the machine
    found = fit(collect(shots), "card", "m")
    assert sorted(errors(found))[len(errors(found)) // 2] < 0.05
    assert 0.02 < found.stages[Stage.DENOISE].error < 0.1


def test_shots_of_one_size_give_one_rate_and_no_guesses() -> None:
    plan = plans()[0]
    found = fit_stage(Stage.DECODE, collect([took(plan)] * 5)[Stage.DECODE])
    assert found.base == found.quadratic == 0.0
    assert found.rate > 0
    assert found.samples == 5


def test_what_was_not_measured_is_asked_for() -> None:
    samples = collect(map(took, plans()))
    samples[Stage.DECODE] = Samples()
    with pytest.raises(UserError, match="got none for decode"):
        fit(samples, "card", "m")


def test_a_shots_chain_is_its_longest_path() -> None:
    plan = plans()[1]
    denoise = [t for t in plan.tasks if t.key.stage is Stage.DENOISE]
    chain = TRUE.chain(plan)
    along = sum(TRUE.seconds(task, plan.frame) for task in denoise)
    work = dict.fromkeys(Stage, 0.0)
    for task in plan.tasks:
        work[task.key.stage] += TRUE.seconds(task, plan.frame)
    assert along == pytest.approx(work[Stage.DENOISE])
    assert along + 0.4 + 0.3 < chain < sum(work.values())
    assert tokens(denoise[0], plan.frame) * 40 == denoise[0].cost / 2  # two passes of 40 steps


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": {}}, "lacks condition"),
        ({"devise": "x"}, "devise"),
        ({"device": None}, "device"),
    ],
)
def test_a_profile_that_is_none_is_told(change: dict[str, object], words: str) -> None:
    data = {**json.loads(TRUE.model_dump_json()), **change}
    with pytest.raises(ConfigError, match=words):
        Profile.parse(json.dumps(data).encode(), "p.json")
    with pytest.raises(ConfigError, match="should be a profile"):
        Profile.parse(b"\x00", "p.json")


def test_negative_times_are_refused() -> None:
    data = json.loads(TRUE.model_dump_json())
    data["stages"]["denoise"]["rate"] = -1
    with pytest.raises(ConfigError, match="rate"):
        Profile.parse(json.dumps(data).encode(), "p.json")
    assert Profile.parse(TRUE.model_dump_json().encode(), "p.json") == TRUE

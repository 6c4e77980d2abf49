"""A deadline is learnt from the tasks before, by their cost, and never shorter or longer than is allowed."""

from actors.deadline import Deadlines
from ltx_ray.config import RenderConfig
from ltx_ray.types import Stage

CONFIG = RenderConfig.model_validate({"limits": {"task_seconds": 1000, "least_task_seconds": 20}})


def learnt(*tasks: tuple[float, float]) -> Deadlines:
    """What denoise tasks of (cost, seconds) teach."""
    made = Deadlines(CONFIG)
    for cost, seconds in tasks:
        made.learn(Stage.DENOISE, cost, seconds)
    return made


def test_without_experience_the_longest_is_allowed() -> None:
    assert learnt().of(Stage.DENOISE, 5.0) == 1000
    assert learnt(*[(1.0, 3.0)] * 4).of(Stage.DENOISE, 5.0) == 1000


def test_ten_times_the_slowest_by_its_cost_is_too_long() -> None:
    made = learnt(*[(1.0, 1.0)] * 4, (2.0, 6.0))
    assert made.of(Stage.DENOISE, 1.0) == 30
    assert made.of(Stage.DENOISE, 4.0) == 120


def test_it_stays_within_its_bounds() -> None:
    made = learnt(*[(1.0, 1.0)] * 5)
    assert made.of(Stage.DENOISE, 0.001) == 20
    assert made.of(Stage.DENOISE, 1e6) == 1000
    assert learnt(*[(0.0, 1.0)] * 5).of(Stage.DENOISE, 0.0) == 20


def test_each_stage_has_its_own() -> None:
    assert learnt(*[(1.0, 1.0)] * 5).of(Stage.FINISH, 1.0) == 1000


def test_stages_that_fetch_files_are_given_the_time_of_a_slow_server() -> None:
    made = Deadlines(RenderConfig())
    for _ in range(5):
        made.learn(Stage.CONDITION, 1.0, 0.1)
    assert made.of(Stage.CONDITION, 1.0) == 300 + 600 + 600

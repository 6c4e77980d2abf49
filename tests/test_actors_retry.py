"""What a failure means: who is to blame, and how often it may happen."""

import pytest

from actors.retry import Tries, Verdict, judge
from actors.work import Failure
from ltx_ray.config import LimitsConfig
from ltx_ray.errors import (
    BadResultError,
    ConfigError,
    InputLostError,
    LtxRayError,
    MediaError,
    ModelError,
    RetryableError,
    StorageError,
    TaskHungError,
    UserError,
    WorkerLostError,
)
from ltx_ray.manifest.row import RowError

LIMITS = LimitsConfig(max_attempts=3, max_worker_losses=5)


def verdicts(error: Exception, times: int, limits: LimitsConfig = LIMITS) -> list[Verdict]:
    """What is said to a task that meets ``error`` again and again."""
    tries = Tries()
    return [judge(Failure.of(error), tries, limits) for _ in range(times)]


@pytest.mark.parametrize("error", [BadResultError("NaN"), MemoryError("full")])
def test_what_would_end_the_same_way_is_tried_once_more(error: Exception) -> None:
    assert verdicts(error, 2) == [Verdict.RETRY, Verdict.FAIL]
    once = LimitsConfig(max_attempts=1)
    assert verdicts(error, 1, once) == [Verdict.FAIL]


@pytest.mark.parametrize("error", [RetryableError("busy"), RuntimeError("bug"), TaskHungError("slow")])
def test_what_a_task_raises_itself_is_tried_max_attempts_times(error: Exception) -> None:
    assert verdicts(error, 3) == [Verdict.RETRY, Verdict.RETRY, Verdict.FAIL]


@pytest.mark.parametrize("error", [WorkerLostError("gone"), InputLostError("gone", "file")])
def test_losses_say_little_about_the_shot_and_may_happen_more_often(error: Exception) -> None:
    assert verdicts(error, 5) == [Verdict.RETRY] * 4 + [Verdict.FAIL]


@pytest.mark.parametrize("error", [MediaError("broken"), UserError("wrong"), RowError("wrong")])
def test_a_wrong_row_is_rejected_at_once(error: Exception) -> None:
    assert verdicts(error, 1) == [Verdict.REJECT]


@pytest.mark.parametrize("error", [ModelError("lacks a part"), ConfigError("wrong"), LtxRayError("internal")])
def test_what_is_not_the_rows_fault_and_cannot_be_retried_fails_the_shot(error: Exception) -> None:
    assert verdicts(error, 1) == [Verdict.FAIL]


def test_storage_that_goes_on_failing_stops_the_run() -> None:
    assert verdicts(StorageError("full"), 3) == [Verdict.RETRY, Verdict.RETRY, Verdict.STOP]


def test_failures_and_losses_are_counted_apart() -> None:
    tries = Tries()
    for error in (WorkerLostError("gone"), RetryableError("busy")) * 2:
        assert judge(Failure.of(error), tries, LIMITS) is Verdict.RETRY
    assert (tries.failures, tries.losses) == (2, 2)
    assert judge(Failure.of(RetryableError("busy")), tries, LIMITS) is Verdict.FAIL


def test_with_one_attempt_nothing_is_tried_again() -> None:
    once = LimitsConfig(max_attempts=1, max_worker_losses=1)
    assert verdicts(BadResultError("NaN"), 1, once) == [Verdict.FAIL]
    assert verdicts(WorkerLostError("gone"), 1, once) == [Verdict.FAIL]


def test_a_failure_travels_as_values() -> None:
    try:
        raise InputLostError("two files are gone", "a", "b")
    except InputLostError as error:
        failure = Failure.of(error)
    assert (failure.kind, failure.message, failure.lost) == ("input_lost", "two files are gone", ("a", "b"))
    assert failure.retryable
    assert "test_actors_retry.py" in failure.traceback
    assert Failure.of(MemoryError()).kind == "out_of_memory"


def test_what_ran_out_of_memory_is_tried_once_more_and_alone_whatever_failed_before() -> None:
    tries = Tries()
    full = Failure.of(MemoryError("full"))
    assert judge(Failure.of(RuntimeError("other")), tries, LIMITS) is Verdict.RETRY
    assert not tries.alone
    assert judge(full, tries, LIMITS) is Verdict.RETRY
    assert tries.alone
    assert judge(full, tries, LIMITS) is Verdict.FAIL
    assert verdicts(MemoryError("full"), 2) == [Verdict.RETRY, Verdict.FAIL]


def test_what_can_be_done_in_parts_is_halved_each_time_until_the_attempts_are_used_up() -> None:
    tries, full = Tries(), Failure.of(MemoryError("full"))
    found = [judge(full, tries, LIMITS, divisible=True) for _ in range(3)]
    assert found == [Verdict.RETRY, Verdict.RETRY, Verdict.FAIL]
    assert tries.halvings == 3

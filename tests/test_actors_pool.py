"""A pool: best first, one job a worker, grown on demand, and never a job that nobody answers for."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import settings_of, shot_of

from actors.line import Terms
from actors.pool import Pool
from actors.simulated_pool import Fate, SimulatedLauncher, SimulatedWorker, run_virtually
from actors.work import Done, Failure
from actors.worker import PoolBrokenError, Worker
from ltx_ray.errors import WorkerLostError
from ltx_ray.planning.plan import plan_shot
from ltx_ray.types import Job, Receipt, Stage

PLAN = plan_shot(shot_of(9, 64, 64), settings_of())


def job_of(name: str, attempt: int = 1) -> Job:
    """A conditioning job whose output is ``name``."""
    return Job(shot=PLAN.shot, task=PLAN.tasks[0], frame=PLAN.frame, attempt=attempt, output=name)


@dataclass
class Bench:
    """Launches simulated workers and notes what they do."""

    fate_of: Callable[[Job], Fate] = lambda job: Fate(seconds=1.0)
    launches: list[Exception | None] = field(default_factory=list)  # how the next ones end
    launch_seconds: float = 0.0
    launched: int = 0
    closed: int = 0
    began: list[tuple[float, str]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> Worker:
        """A worker, or the next error."""
        await asyncio.sleep(self.launch_seconds)
        self.launched += 1
        error = self.launches.pop(0) if self.launches else None
        if error is not None:
            raise error
        return BenchWorker(self)


class BenchWorker(SimulatedWorker):
    """A simulated worker that tells its bench."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(Stage.CONDITION, bench.fate_of)
        self._bench = bench

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """As SimulatedWorker.call."""
        bench = self._bench
        bench.began.append((asyncio.get_running_loop().time(), job.output))
        bench.running += 1
        bench.most_running = max(bench.most_running, bench.running)
        try:
            return await super().call(job, inputs)
        finally:
            bench.running -= 1

    def close(self) -> None:
        """Counted."""
        self._bench.closed += 1


def in_pool(
    bench: Bench, most: int, work: Callable[[Pool], Coroutine[Any, Any, None]], *, close: bool = True
) -> None:
    """Run ``work`` with a pool over ``bench`` in virtual time."""

    async def main() -> None:
        pool = Pool(Stage.CONDITION, bench, most)
        await work(pool)
        if close:
            await pool.close()
            assert not [t for t in asyncio.all_tasks() if t is not asyncio.current_task() and not t.done()]

    run_virtually(main())


def name_of(done: Done) -> str:
    """Of the job whose receipt it is."""
    assert isinstance(done.outcome, Receipt)
    assert done.outcome.artefact is not None
    return done.outcome.artefact.name


def test_lower_priority_goes_first_and_equals_in_the_order_of_asking() -> None:
    bench = Bench()

    async def work(pool: Pool) -> None:
        asked = [(3.0, "d"), (1.0, "b"), (3.0, "e"), (0.0, "a"), (1.0, "c")]
        futures = [pool.submit(job_of(name), (), (priority, 0.0)) for priority, name in asked]
        assert [name_of(done) for done in await asyncio.gather(*futures)] == [name for _, name in asked]

    in_pool(bench, 1, work)
    assert [name for _, name in bench.began] == ["a", "b", "c", "d", "e"]


@settings(deadline=None, max_examples=50)
@given(
    seconds=st.lists(st.floats(0, 10), min_size=1, max_size=30),
    most=st.integers(1, 5),
    lost=st.sets(st.integers(0, 29)),
)
def test_every_job_is_answered_and_no_more_run_at_once_than_allowed(
    seconds: list[float], most: int, lost: set[int]
) -> None:
    def fate_of(job: Job) -> Fate:
        return Fate(seconds=seconds[int(job.output)], lost=int(job.output) in lost)

    bench = Bench(fate_of)

    async def work(pool: Pool) -> None:
        futures = [pool.submit(job_of(str(number)), (), (0.0,)) for number in range(len(seconds))]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for number, answer in enumerate(answers):
            if number in lost:
                assert isinstance(answer, Done)
                assert isinstance(answer.outcome, Failure)
                assert answer.outcome.kind == "worker_lost"
            else:
                assert isinstance(answer, Done)
                assert name_of(answer) == str(number)
        state = pool.state()
        assert (state.queued, state.running, state.launching) == (0, 0, 0)

    in_pool(bench, most, work)
    assert bench.most_running <= most
    assert bench.closed == bench.launched, "every worker is let go of"


def test_it_grows_only_as_far_as_there_is_work() -> None:
    bench = Bench(launch_seconds=5.0)

    async def work(pool: Pool) -> None:
        futures = [pool.submit(job_of(str(number)), (), (0.0,)) for number in range(2)]
        assert pool.state().launching == 2
        await asyncio.gather(*futures)
        assert pool.state().workers == 2
        await asyncio.gather(*(pool.submit(job_of(str(number)), (), (0.0,)) for number in range(6)))
        assert pool.state().workers + pool.state().launching == 4

    in_pool(bench, 4, work)


def test_a_worker_that_is_launched_ahead_is_kept_while_there_will_be_work() -> None:
    async def scenario() -> None:
        bench = Bench(launch_seconds=30.0)  # until it has a place
        pool = Pool(Stage.CONDITION, bench, 4)
        pool.warm_up()
        pool.settle(60.0, useful=True)
        assert pool.state().launching == 1
        pool.settle(60.0, useful=False)
        assert pool.state().launching == 0
        await pool.close()

    run_virtually(scenario())


def test_warm_up_starts_one_worker_and_no_second() -> None:
    bench = Bench(launch_seconds=5.0)

    async def work(pool: Pool) -> None:
        pool.warm_up()
        pool.warm_up()
        await asyncio.sleep(6)
        pool.warm_up()
        assert (pool.state().workers, bench.launched) == (1, 1)
        await pool.submit(job_of("a"), (), (0.0,))
        assert bench.began == [(6.0, "a")], "it was ready when its work came"

    in_pool(bench, 3, work)


def test_a_lost_worker_is_replaced_for_the_work_that_is_left() -> None:
    bench = Bench(lambda job: Fate(seconds=1.0, lost=job.output == "poison"))

    async def work(pool: Pool) -> None:
        lost = pool.submit(job_of("poison"), (), (0.0,))
        kept = pool.submit(job_of("good"), (), (1.0,))
        outcome = (await lost).outcome
        assert isinstance(outcome, Failure)
        assert outcome.kind == "worker_lost"
        assert name_of(await kept) == "good"

    in_pool(bench, 1, work)
    assert bench.launched == 2


def test_workers_that_vanish_at_their_start_are_launched_again() -> None:
    bench = Bench(launches=[WorkerLostError("gone")] * 4)

    async def work(pool: Pool) -> None:
        assert name_of(await pool.submit(job_of("a"), (), (0.0,))) == "a"

    in_pool(bench, 1, work)


@pytest.mark.parametrize(
    ("errors", "launches"), [([WorkerLostError("gone")] * 5, 5), ([ValueError("no such model")], 1)]
)
def test_a_pool_that_can_make_no_worker_fails_all_jobs(errors: list[Exception], launches: int) -> None:
    bench = Bench(launches=[*errors])

    async def work(pool: Pool) -> None:
        futures = [pool.submit(job_of(str(number)), (), (0.0,)) for number in range(3)]
        for future in (*futures, pool.submit(job_of("later"), (), (0.0,))):
            with pytest.raises(PoolBrokenError, match=f"stage condition could be started: {errors[0]}"):
                await future
        with pytest.raises(PoolBrokenError):
            await pool.submit(job_of("too late"), (), (0.0,))

    in_pool(bench, 1, work)
    assert bench.launched == launches


def test_a_failed_job_is_an_answer_and_its_worker_goes_on() -> None:
    failure = Failure(kind="model", message="no", traceback="", retryable=False)
    bench = Bench(lambda job: Fate(seconds=1.0, failure=failure if job.output == "bad" else None))

    async def work(pool: Pool) -> None:
        bad = pool.submit(job_of("bad"), (), (0.0,))
        good = pool.submit(job_of("good"), (), (1.0,))
        assert (await bad).outcome == failure
        assert name_of(await good) == "good"

    in_pool(bench, 1, work)
    assert bench.launched == 1


def test_a_worker_that_raises_what_nobody_expects_answers_with_a_failure_and_leaves() -> None:
    def fate_of(job: Job) -> Fate:
        if job.output == "bad":
            raise LookupError("of its own")
        return Fate(seconds=1.0)

    bench = Bench(fate_of)

    async def work(pool: Pool) -> None:
        outcome = (await pool.submit(job_of("bad"), (), (0.0,))).outcome
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.message) == ("internal", "LookupError: of its own")
        assert pool.state().workers == 0
        assert name_of(await pool.submit(job_of("good"), (), (0.0,))) == "good"

    in_pool(bench, 1, work)


def test_a_cancelled_job_that_waits_never_runs_and_starts_no_worker() -> None:
    bench = Bench()

    async def work(pool: Pool) -> None:
        first = pool.submit(job_of("first"), (), (0.0,))
        waiting = [pool.submit(job_of(str(number)), (), (1.0,)) for number in range(5)]
        last = pool.submit(job_of("last"), (), (2.0,))
        for future in waiting:
            future.cancel()
        await first
        assert name_of(await last) == "last"
        assert pool.state().queued == 0

    in_pool(bench, 1, work)
    assert [name for _, name in bench.began] == ["first", "last"]


def test_a_cancelled_job_that_runs_gives_its_worker_back() -> None:
    bench = Bench(lambda job: Fate(seconds=1.0, lost=job.output == "lost"))

    async def work(pool: Pool) -> None:
        for name in ("runs", "lost"):
            future = pool.submit(job_of(name), (), (0.0,))
            await asyncio.sleep(0.5)
            future.cancel()
            await asyncio.sleep(1)
        assert name_of(await pool.submit(job_of("next"), (), (0.0,))) == "next"

    in_pool(bench, 1, work)
    assert bench.launched == 2


@pytest.mark.parametrize("after", [0.0, 2.0, 5.5], ids=["before a start", "in a start", "in work"])
def test_closing_ends_everything_at_any_time(after: float) -> None:
    bench = Bench(launch_seconds=5.0)

    async def work(pool: Pool) -> None:
        for number in range(4):
            pool.submit(job_of(str(number)), (), (0.0,))
        await asyncio.sleep(after)
        await pool.close()
        state = pool.state()
        assert (state.queued, state.running, state.workers, state.launching) == (0, 0, 0, 0)
        await asyncio.sleep(20)
        assert bench.running == 0
        assert pool.state() == state

    in_pool(bench, 2, work)


def test_simulated_workers_take_their_time_to_start_and_to_work() -> None:
    async def main() -> None:
        pool = Pool(Stage.CONDITION, SimulatedLauncher(Stage.CONDITION, lambda _: Fate(seconds=2.5), 4.0), 1)
        await pool.submit(job_of("a"), (), (0.0,))
        assert asyncio.get_running_loop().time() == 6.5
        await pool.close()

    run_virtually(main())


def test_virtual_time_says_when_nothing_can_ever_happen() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="the simulation is stuck"):
        run_virtually(main())


def test_a_hung_worker_is_replaced_and_its_job_fails_in_time() -> None:
    bench = Bench(fate_of=lambda job: Fate(seconds=1e6 if job.output == "hung" else 1.0))

    async def work(pool: Pool) -> None:
        loop = asyncio.get_running_loop()
        hung = pool.submit(job_of("hung"), (), (0.0,), Terms(seconds=30.0))
        after = pool.submit(job_of("after"), (), (1.0,), Terms(seconds=30.0))
        outcome = (await hung).outcome
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.retryable) == ("timeout", True)
        assert "condition-0000 should take less than 30 s" in outcome.message
        assert loop.time() == pytest.approx(30.0)
        assert name_of(await after) == "after"
        assert (bench.launched, bench.closed) == (2, 1)

    in_pool(bench, 1, work)


def test_a_worker_that_ran_out_of_memory_is_replaced() -> None:
    full = Failure.of(MemoryError("full"))
    bench = Bench(fate_of=lambda job: Fate(seconds=1.0, failure=full if job.output == "large" else None))

    async def work(pool: Pool) -> None:
        assert (await pool.submit(job_of("large"), (), (0.0,))).outcome == full
        assert name_of(await pool.submit(job_of("small"), (), (0.0,))) == "small"
        assert (bench.launched, bench.closed) == (2, 1)

    in_pool(bench, 1, work)


def test_settled_means_that_no_job_is_at_work_any_more() -> None:
    bench = Bench(fate_of=lambda job: Fate(seconds=50.0))

    async def work(pool: Pool) -> None:
        future = pool.submit(job_of("long"), (), (0.0,))
        await asyncio.sleep(1.0)
        future.cancel()
        assert bench.running == 1
        await pool.close(settled=True)
        assert bench.running == 0
        assert asyncio.get_running_loop().time() >= 50.0

    in_pool(bench, 1, work, close=False)

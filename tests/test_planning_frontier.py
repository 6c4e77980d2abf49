"""The frontier: no task before its needs, none twice, none for nothing, whatever is lost on the way."""

from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from planned import settings_of, shot_of

from ltx_ray.planning.frontier import Frontier
from ltx_ray.planning.plan import CONDITION, FINISH, plan_shot
from ltx_ray.types import Need, ShotPlan, Stage, Task, TaskKey

DURABLE = {Stage.CONDITION, Stage.DENOISE, Stage.ASSEMBLE, Stage.FINISH}


def plan_of(frames: int, width: int = 64) -> ShotPlan:
    """A shot of several chunks, slabs and tiles."""
    options = {"slab_frames": 16, "tile_size": 96, "halo": 0, "temporal_halo": 1, "ramp": 32}
    return plan_shot(shot_of(frames, width, 64), settings_of(33, 16, **options))


def keys(tasks: Iterable[Task]) -> set[TaskKey]:
    """The keys of the tasks."""
    return {task.key for task in tasks}


def walk(plan: ShotPlan, done: Iterable[TaskKey] = ()) -> list[TaskKey]:
    """All tasks in the order in which a frontier hands them out, one batch after the other."""
    frontier, order = Frontier(plan, list(done)), []
    while batch := frontier.take_ready():
        for task in batch:
            order.append(task.key)
            frontier.complete(task.key)
    assert frontier.finished
    return order


def test_a_fresh_shot_is_done_task_by_task() -> None:
    plan = plan_of(97)
    order = walk(plan)
    assert sorted(order) == sorted(task.key for task in plan.tasks)
    assert order[0] == CONDITION
    assert order[-1] == FINISH


def test_at_first_only_the_conditioning_can_run() -> None:
    frontier = Frontier(plan_of(97))
    assert keys(frontier.take_ready()) == {CONDITION}
    assert frontier.take_ready() == []


def test_nothing_is_done_that_an_encoded_segment_has_made_needless() -> None:
    plan = plan_of(97)
    done = [task.key for task in plan.tasks if task.key.stage in (Stage.CONDITION, Stage.DENOISE)]
    done += [TaskKey(Stage.ASSEMBLE, slab.index) for slab in plan.slabs[:-1]]
    last = plan.slabs[-1].index
    order = walk(plan, done)
    # The last slab is decoded, and the one before it once more for its tails.
    assert {key.index for key in order if key.stage is Stage.DECODE} == {last - 1, last}
    assert [key for key in order if key.stage is not Stage.DECODE] == [TaskKey(Stage.ASSEMBLE, last), FINISH]


def test_no_chunk_is_denoised_whose_slabs_are_all_encoded() -> None:
    plan = plan_of(97)
    done = [TaskKey(Stage.ASSEMBLE, slab.index) for slab in plan.slabs]
    assert walk(plan, done) == [FINISH]


def test_a_finished_shot_needs_nothing() -> None:
    frontier = Frontier(plan_of(97), [FINISH])
    assert frontier.finished
    assert frontier.take_ready() == []


def test_records_of_another_plan_do_not_count() -> None:
    plan = plan_of(97)
    assert walk(plan, [TaskKey(Stage.DENOISE, 999), TaskKey(Stage.DECODE, 0, 99)]) == walk(plan)


def test_a_retried_task_is_ready_again() -> None:
    frontier = Frontier(plan_of(97))
    frontier.take_ready()
    frontier.retry(CONDITION)
    assert keys(frontier.take_ready()) == {CONDITION}


def test_needs_tells_what_a_task_is_made_of() -> None:
    plan = plan_of(97)
    frontier = Frontier(plan)
    assert all(frontier.needs(task.key) == task.needs for task in plan.tasks)


class FrontierMachine(RuleBasedStateMachine):
    """Hands out, completes, fails and loses at random, beside a book of its own that knows only needs."""

    @initialize(
        frames=st.sampled_from([9, 33, 57, 97, 145]),
        width=st.sampled_from([64, 160]),
        chance=st.randoms(use_true_random=False),
        resumed=st.booleans(),
    )
    def begin(self, frames: int, width: int, chance: object, resumed: bool) -> None:
        """A new shot, or one of which a part of the durable results is there."""
        self.plan = plan_of(frames, width)
        self.tasks = {task.key: task for task in self.plan.tasks}
        durable = [task.key for task in self.plan.tasks if task.key.stage in DURABLE and task.key != FINISH]
        at = chance.randint(0, len(durable)) if resumed else 0  # type: ignore[attr-defined]
        self.done = set(durable[:at])
        self.frontier = Frontier(self.plan, self.done)
        self.running: list[TaskKey] = []
        self.dropped: set[Need] = set()
        self.lost_count = 0

    @rule()
    def take(self) -> None:
        """What is handed out can run, and does not run already."""
        for task in self.frontier.take_ready():
            assert {need.key for need in task.needs} <= self.done, f"{task.key} is handed out too early"
            assert task.key not in self.running
            assert task.key not in self.done
            self.running.append(task.key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """A task ends well; nothing that is still needed is let go of."""
        key = data.draw(st.sampled_from(self.running))
        self.running.remove(key)
        self.done.add(key)
        for need in self.frontier.complete(key):
            for user in self.tasks.values():
                if need in user.needs and user.key not in self.done:
                    assert not self.is_wanted(user.key), f"{need} is let go of, but {user.key} needs it"
            self.dropped.add(need)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A task comes to nothing."""
        key = data.draw(st.sampled_from(self.running))
        self.running.remove(key)
        self.frontier.retry(key)

    @precondition(lambda self: self.done and self.lost_count < 10)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A result is gone, in memory or from the disk; what uses it now fails."""
        key = data.draw(st.sampled_from(sorted(self.done)))
        if key == FINISH:
            return
        self.lost_count += 1
        self.done.discard(key)
        self.frontier.lose(key)
        users = [run for run in self.running if any(need.key == key for need in self.tasks[run].needs)]
        for user in users:
            self.running.remove(user)
            self.frontier.retry(user)

    def is_wanted(self, key: TaskKey) -> bool:
        """Whether the video still lacks ``key``, counted backwards from the finish."""
        wanted, stack = set(), [FINISH]
        while stack:
            current = stack.pop()
            if current not in self.done and current not in wanted:
                wanted.add(current)
                stack.extend(need.key for need in self.tasks[current].needs)
        return key in wanted

    @invariant()
    def finished_says_whether_the_video_is_there(self) -> None:
        """The end is told when it is reached."""
        if hasattr(self, "done"):
            assert self.frontier.finished == (FINISH in self.done)

    def teardown(self) -> None:
        """From wherever it stands, the shot can be finished."""
        if not hasattr(self, "plan"):
            return
        for _ in range(1000):
            self.take()
            if not self.running:
                break
            for key in tuple(self.running):
                self.running.remove(key)
                self.done.add(key)
                self.frontier.complete(key)
        assert self.frontier.finished, "it is stuck"


TestFrontier = FrontierMachine.TestCase
TestFrontier.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)

"""The frontier of one shot's graph: which tasks can run now, and which payloads nobody needs any more.

Decides only; it holds no payloads and knows no time. A *durable* result (a file that the ledger names) can
never be lost; a result in memory can, and is then made again. Only what the final video still lacks is
made: a decoded tile whose segment is there already, or a chunk whose slabs are all encoded, is not.
"""

from collections.abc import Collection

from ltx_ray.planning.plan import FINISH
from ltx_ray.types import Need, ShotPlan, Task, TaskKey


class Frontier:
    """Walks the tasks of ``plan`` from those in ``done`` (durable results of earlier runs) to the finish."""

    def __init__(self, plan: ShotPlan, done: Collection[TaskKey] = ()) -> None:
        self._tasks = {task.key: task for task in plan.tasks}
        self._order = {task.key: index for index, task in enumerate(plan.tasks)}
        self._users: dict[TaskKey, list[Task]] = {}
        for task in plan.tasks:
            for key in dict.fromkeys(need.key for need in task.needs):
                self._users.setdefault(key, []).append(task)
        self._done = {key for key in done if key in self._tasks}
        self._started: set[TaskKey] = set()
        self._ready: dict[TaskKey, Task] = {}
        self._waiting: dict[TaskKey, int] = {}  # asked for: how many needs are missing
        self._wanted: set[TaskKey] = set()  # ever asked for
        self._want(FINISH)

    @property
    def finished(self) -> bool:
        """Whether the video is there."""
        return FINISH in self._done

    def task(self, key: TaskKey) -> Task:
        """The task that ``key`` names."""
        return self._tasks[key]

    def needs(self, key: TaskKey) -> tuple[Need, ...]:
        """What ``key`` is made of."""
        return self._tasks[key].needs

    def take_ready(self) -> list[Task]:
        """The tasks that can run now and were not handed out before, in the plan's order."""
        ready = sorted(self._ready.values(), key=lambda task: self._order[task.key])
        self._ready.clear()
        self._started.update(task.key for task in ready)
        return ready

    def complete(self, key: TaskKey) -> list[Need]:
        """``key`` is done; returns the payloads that no unfinished task needs any more."""
        self._started.discard(key)
        self._done.add(key)
        for user in self._users.get(key, ()):
            if user.key in self._waiting:
                self._waiting[user.key] -= 1
                self._release(user.key)
        payloads = [*self._tasks[key].needs, Need(key, 0), Need(key, 1)]
        return [need for need in dict.fromkeys(payloads) if not self._is_needed(need)]

    def retry(self, key: TaskKey) -> None:
        """``key`` was handed out and came to nothing: it is ready again once its needs are there."""
        self._started.discard(key)
        self._want(key)

    def lose(self, key: TaskKey) -> None:
        """The in-memory result of ``key`` is gone: it is made again before any of its users can run."""
        if key not in self._done:
            return
        self._done.discard(key)
        for user in self._users.get(key, ()):
            if self._ready.pop(user.key, None):
                self._waiting[user.key] = 0
            if user.key in self._waiting:
                self._waiting[user.key] += 1
        self._want(key)

    def _want(self, key: TaskKey) -> None:
        """Ask for ``key`` and, from there backwards, for everything that it lacks."""
        stack = [key]
        while stack:
            current = stack.pop()
            if any(current in state for state in (self._done, self._started, self._ready, self._waiting)):
                continue
            self._wanted.add(current)
            missing = {need.key for need in self._tasks[current].needs if need.key not in self._done}
            self._waiting[current] = len(missing)
            stack.extend(missing)
            self._release(current)

    def _release(self, key: TaskKey) -> None:
        if self._waiting[key] == 0:
            self._ready[key] = self._tasks[key]
            del self._waiting[key]

    def _is_needed(self, need: Need) -> bool:
        return any(
            user.key in self._wanted and user.key not in self._done and need in user.needs
            for user in self._users.get(need.key, ())
        )

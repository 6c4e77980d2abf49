"""The workers of one pool: those that are being launched, idle, or at work, and which of them are let go.

Workers on closed nodes, such as have run out of memory or grown, and such as are too many by now, are let go
after the job that they have. It knows workers, not jobs: which job a worker gets is the pool's.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from actors.idle import Idle
from actors.nodes import Nodes
from actors.recycling import Recycling
from actors.work import OUT_OF_MEMORY, Done, Failure
from actors.worker import Launcher, Worker
from ltx_ray.errors import WorkerLostError

_MAX_LOST_LAUNCHES = 5  # workers in a row that vanish before they are ready


class Crew:
    """Of one stage. ``changed`` is called when a worker has become ready, or a launch has failed; ``broke``,
    with the reason, when no worker can be made. Called from the event loop's thread only."""

    def __init__(
        self,
        launcher: Launcher,
        most: int,
        nodes: Nodes,
        recycling: Recycling,
        changed: Callable[[], None],
        broke: Callable[[Exception], None],
    ) -> None:
        self.least, self.most = 0, most
        self.idle = Idle()
        self.busy: set[Worker] = set()
        self._busy_on: Counter[str] = Counter()  # of them, on each node
        self._launcher, self._nodes, self._recycling = launcher, nodes, recycling
        self._changed, self._broke = changed, broke
        self._launches: dict[asyncio.Task[None], bool] = {}  # whether it has a place
        self._lost_launches = 0

    @property
    def launching(self) -> int:
        """Workers that wait for a place, or load their part of the model."""
        return len(self._launches)

    @property
    def unplaced(self) -> int:
        """Of those that are launching: such as find no place yet."""
        return sum(not placed for placed in self._launches.values())

    @property
    def alive(self) -> int:
        """Workers that can have another job, now or later."""
        leaving = sum(self._busy_on[node] for node in self._nodes.closed) if self._nodes.closed else 0
        return len(self.busy) - leaving + len(self.idle) + len(self._launches)

    def works_on(self, node: str) -> bool:
        """Whether a worker on ``node`` has a job: it will be free again."""
        return self._busy_on[node] > 0

    def launch(self, number: int, avoided: frozenset[str]) -> None:
        """Launch at most ``number`` workers, on none of the ``avoided`` nodes, and none beyond the most."""
        for _ in range(min(number, self.most - self.alive)):
            task = asyncio.get_running_loop().create_task(self._launch(avoided))
            self._launches[task] = False
            # One that is cancelled before it began does not count itself out.
            task.add_done_callback(lambda ended: self._launches.pop(ended, None))

    def begin(self, worker: Worker) -> None:
        """An idle worker gets a job."""
        self.idle.remove(worker)
        self.busy.add(worker)
        self._busy_on[worker.node] += 1

    def end(self, worker: Worker, done: Done | None) -> None:
        """``worker`` has its job no more. ``done`` None: it failed and is in no known state."""
        is_one_too_many = self.alive > self.most
        if worker in self.busy:  # else all were dismissed meanwhile
            self.busy.remove(worker)
            self._busy_on[worker.node] -= 1
        if is_one_too_many or done is None or self._is_spent(worker, done):
            self._discard(worker)
        else:
            self._rest(worker)

    def leave_closed(self) -> None:
        """Let idle workers on closed nodes go."""
        for worker in [each for each in self.idle if each.node in self._nodes.closed]:
            self._dismiss(worker)

    def let_one_go(self) -> bool:
        """Let an idle worker go, to make room; whether there was one."""
        last = next(reversed(self.idle), None)
        if last is not None:
            self._dismiss(last)
        return last is not None

    def settle(self, queued: int, patience: float, *, useful: bool) -> None:
        """Let go of what has no work while so many jobs are ``queued``: launches that find no place yet, and
        workers that have been idle for ``patience`` seconds; and of what is beyond the most. ``useful``:
        there will be jobs, for which the first worker may be launched ahead."""
        ready = len(self.idle) + len(self.busy)
        needed = max(queued - len(self.idle), max(self.least, int(useful)) - ready, 0)
        spare = max(self.launching - needed, self.alive - self.most)
        unplaced = [task for task, placed in self._launches.items() if not placed]
        for task in unplaced[-spare:] if spare > 0 else ():
            task.cancel()
            self._launches.pop(task)
        now = asyncio.get_running_loop().time()
        for worker in list(self.idle):
            is_tired = now - self.idle[worker] >= patience and not queued
            if self.alive > self.most or (is_tired and len(self.idle) + len(self.busy) > self.least):
                self._dismiss(worker)

    async def close(self) -> None:
        """Launch nothing more, and wait until what was launching is gone."""
        self.least = self.most = 0
        tasks = list(self._launches)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._launches.clear()

    def dismiss_all(self) -> None:
        """Let all workers go, also those that have a job."""
        for worker in (*self.idle, *self.busy):
            self._discard(worker)
        self.idle.clear()
        self.busy.clear()
        self._busy_on.clear()

    async def _launch(self, avoided: frozenset[str]) -> None:
        task = asyncio.current_task()
        assert task is not None

        def placed() -> None:
            if task in self._launches:
                self._launches[task] = True

        try:
            worker = await self._launcher.launch(avoided, placed)
        except WorkerLostError as error:
            self._lost_launches += 1
            if self._lost_launches >= _MAX_LOST_LAUNCHES:
                self._broke(error)
        except Exception as error:
            self._broke(error)
        else:
            self._lost_launches = 0
            self._rest(worker)
        finally:
            self._launches.pop(task, None)
        self._changed()

    def _is_spent(self, worker: Worker, done: Done) -> bool:
        # What a worker that ran out of memory holds on to by now may be what the next one lacks.
        ran_out = isinstance(done.outcome, Failure) and done.outcome.kind == OUT_OF_MEMORY
        return ran_out or worker.node in self._nodes.closed or self._recycling.is_due(worker, done)

    def _rest(self, worker: Worker) -> None:
        self.idle.add(worker, asyncio.get_running_loop().time())

    def _dismiss(self, worker: Worker) -> None:
        self.idle.remove(worker)
        self._discard(worker)

    def _discard(self, worker: Worker) -> None:
        self._recycling.forget(worker)
        worker.close()

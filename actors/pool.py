"""A pool: a priority queue in front of identical workers of one stage, grown on demand up to a number.

The same pool serves Ray actors, threads of this process and simulated workers; they differ in the
``Launcher`` that makes a worker. A worker has one job at a time. A worker that is lost leaves the pool,
its job fails as lost, and a new worker is launched when there is work for it.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from actors.crew import Crew
from actors.line import ORDINARY, Asked, Entry, Line, Rank, Terms
from actors.nodes import Nodes
from actors.recycling import Recycling
from actors.work import Done, Failure
from actors.worker import Launcher, PoolBrokenError, Worker
from ltx_ray.errors import TaskHungError
from ltx_ray.types import Job, Stage

_LOOK_AHEAD = 64  # jobs of a queue that are looked through for one that is near to a free worker


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool at one moment, for people and for metrics."""

    queued: int
    running: int
    workers: int
    launching: int
    unplaced: int  # of those that are launching: such as find no place yet
    most: int


class Pool:
    """The workers of one stage. ``submit`` may be called from the event loop's thread only."""

    def __init__(
        self,
        stage: Stage,
        launcher: Launcher,
        most: int,
        nodes: Nodes | None = None,  # of all pools of the run
        recycling: Recycling | None = None,
    ) -> None:
        self.stage = stage
        self._nodes = nodes or Nodes()
        self._nodes.listen(self._nodes_changed)
        self._crew = Crew(
            launcher, most, self._nodes, recycling or Recycling(), self._nodes_changed, self._break
        )
        self._line = Line()
        self._serving: set[asyncio.Task[None]] = set()  # those in which a worker has a job
        self._broken: PoolBrokenError | None = None
        self._paused = self._closed = False

    @property
    def most(self) -> int:
        """Workers at most, now."""
        return self._crew.most

    def submit(
        self, job: Job, inputs: Sequence[Any], priority: Rank, terms: Terms = ORDINARY
    ) -> asyncio.Future[Done]:
        """Queue ``job``; lower ``priority`` goes first, then first come, first served.

        A worker that takes longer than ``terms.seconds`` for it is replaced, and the job fails with
        TaskHungError.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Done] = loop.create_future()
        if self._broken:
            future.set_exception(self._broken)
            return future
        asked = Asked(job, inputs, terms, loop.time(), future)
        if terms.alone:
            future.add_done_callback(lambda ended: self._nodes.drop(asked))
        self._line.add(asked, priority)
        self._pump()
        return future

    def rank(self, priority: Callable[[Job], Rank]) -> None:
        """Order what waits anew."""
        self._line.rank(priority)

    def pause(self, paused: bool) -> None:
        """Begin nothing more of what is queued, until ``pause(False)``."""
        self._paused = paused
        self._pump()

    def warm_up(self) -> None:
        """Launch the first worker ahead of its work: loading a model takes longer than finding it out."""
        if not self._crew.alive:
            self._crew.launch(1, self._nodes.closed)

    def resize(self, least: int, most: int) -> None:
        """Have from ``least`` to ``most`` workers from now on. Those beyond go when their jobs are done."""
        self._crew.least, self._crew.most = min(least, most), most
        self._pump()

    def settle(self, patience: float, *, useful: bool) -> None:
        """Let go of workers that have been idle for ``patience`` seconds, down to the least, and of launches
        that find no place and that nothing waits for any more; but for the first one where the stage is still
        ``useful``. To be called now and then."""
        if not self._closed:
            queued = 0 if self._paused else len(self._line)
            self._crew.settle(queued, patience, useful=useful)

    def let_one_go(self) -> bool:
        """Let an idle worker go that nothing waits for, to make room; whether there was one."""
        return not self._line and self._crew.let_one_go()

    def state(self) -> PoolState:
        """What the pool is doing now."""
        crew = self._crew
        return PoolState(
            queued=len(self._line),
            running=len(crew.busy),
            workers=len(crew.idle) + len(crew.busy),
            launching=crew.launching,
            unplaced=crew.unplaced,
            most=crew.most,
        )

    def oldest(self) -> float | None:
        """Since when, by the loop's clock, the first of the waiting jobs waits; None: none does."""
        return self._line.oldest()

    async def close(self, *, settled: bool = False) -> None:
        """Drop what is queued and let all workers go.

        ``settled``: wait until no worker has a job any more, for what nobody waits for is still written.
        """
        self._closed = True
        self._line.clear()
        if settled:
            for worker in (*self._crew.idle, *self._crew.busy):
                worker.close()
            await asyncio.gather(*self._serving, return_exceptions=True)
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, self._crew.close(), return_exceptions=True)
        self._crew.dismiss_all()

    def _pump(self) -> None:
        if self._paused or self._closed:
            return
        self._begin_near()
        waiting: list[Entry] = []  # for their nodes
        while (asked := self._line.first()) and self._crew.idle:
            entry = self._line.pop()
            if worker := self._worker_for(asked):
                self._begin(worker, asked)
                continue
            waiting.append(entry)
            if not (asked.terms.alone or asked.terms.shunned):
                break  # what takes any worker did not get one: nothing after it does
        if waiting:
            self._line.put_back(waiting)
        avoided = self._nodes.avoided()
        if avoided is None:
            return  # a launch beside what has its node for itself: later
        # What waits although there are idle workers waits for a node: another worker would not help.
        wanted = len(self._line) - len(self._crew.idle) - self._crew.launching
        self._crew.launch(max(wanted, self._crew.least - self._crew.alive), avoided)

    def _begin_near(self) -> None:
        """Of the first jobs in the line, begin those that find a free worker near to what they need. They
        overtake only such as have busy workers near: those are next there, unless someone has nothing nearer.
        """
        passed: list[Entry] = []
        while self._crew.idle and (asked := self._line.first()) and len(passed) < _LOOK_AHEAD:
            terms = asked.terms
            if terms.alone or not terms.near:
                break
            near = self._nodes.usable(terms.near, terms.shunned)
            worker = next(filter(None, map(self._crew.idle.on, near)), None)
            if worker is None and not any(map(self._crew.works_on, near)):
                break
            entry = self._line.pop()
            if worker:
                self._begin(worker, asked)
            else:
                passed.append(entry)
        if passed:
            self._line.put_back(passed)

    def _worker_for(self, asked: Asked) -> Worker | None:
        if asked.terms.alone:
            return self._nodes.alone(asked, self._crew.idle, self._crew.busy)
        return self._nodes.open(self._crew.idle, self._crew.busy, asked.terms.shunned)

    def _begin(self, worker: Worker, asked: Asked) -> None:
        self._crew.begin(worker)
        self._nodes.begin(worker.node)
        serving = asyncio.get_running_loop().create_task(self._serve(worker, asked))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    def _nodes_changed(self) -> None:
        self._crew.leave_closed()
        self._pump()

    async def _serve(self, worker: Worker, asked: Asked) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(asked.terms.seconds) as limit:
                done = await worker.call(asked.job, asked.inputs)
        except Exception as raised:  # a failed job is a result: a worker that raises is in no known state
            self._end(worker, asked, None)
            error = self._hung(asked) if limit.expired() else raised
            self._answer(asked, worker, Done(outcome=Failure.of(error)), began, clock())
        else:
            self._end(worker, asked, done)
            self._answer(asked, worker, done, began, clock())
        self._pump()

    def _hung(self, asked: Asked) -> Exception:
        return TaskHungError(
            f"{asked.job.task.key} should take less than {asked.terms.seconds:.0f} s, but did not end"
        )

    def _answer(self, asked: Asked, worker: Worker, done: Done, began: float, ended: float) -> None:
        if not asked.future.done():
            done = replace(done, worker_node=worker.node, seconds=ended - began, ended=ended)
            asked.future.set_result(done)

    def _end(self, worker: Worker, asked: Asked, done: Done | None) -> None:
        self._crew.end(worker, done)
        self._nodes.end(worker.node, asked)

    def _break(self, error: Exception) -> None:
        self._broken = PoolBrokenError(f"no worker for stage {self.stage} could be started: {error}")
        self._broken.__cause__ = error
        for asked in self._line.clear():
            if not asked.future.done():
                asked.future.set_exception(self._broken)

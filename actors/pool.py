"""A pool: a priority queue in front of identical workers of one stage, grown on demand up to a number.

The same pool serves Ray actors, threads of this process and simulated workers; they differ in the
``Launcher`` that makes a worker. A worker has one job at a time. A worker that is lost leaves the pool,
its job fails with WorkerLostError, and a new worker is launched when there is work for it.
"""

import asyncio
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.work import OUT_OF_MEMORY, Done, Failure
from ltx_ray.errors import LtxRayError, TaskHungError, WorkerLostError
from ltx_ray.types import Job, Stage

_MAX_LOST_LAUNCHES = 5  # workers in a row that vanish before they are ready


class Worker(Protocol):
    """One actor of a stage, wherever it runs."""

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """Do ``job``. Raises WorkerLostError where the actor went away meanwhile."""

    def close(self) -> None:
        """Let the actor go; a call that it is in returns or raises once it has gone. May be called twice."""


class Launcher(Protocol):
    """Makes workers of one stage."""

    async def launch(self) -> Worker:
        """A worker that is ready. Raises what its start raised, WorkerLostError if it vanished."""


class PoolBrokenError(LtxRayError):
    """No worker of a stage can be made; nothing of that stage can ever be done."""

    kind = "pool"


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool at one moment, for people and for metrics."""

    queued: int
    running: int
    workers: int
    launching: int
    most: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """A job as it waits."""

    job: Job
    inputs: Sequence[Any]
    seconds: float | None


class Pool:
    """The workers of one stage. ``submit`` may be called from the event loop's thread only."""

    def __init__(self, stage: Stage, launcher: Launcher, most: int) -> None:
        self.stage = stage
        self._launcher = launcher
        self._most = most
        self._queue: list[tuple[tuple[float, ...], int, _Asked, asyncio.Future[Done]]] = []
        self._count = itertools.count()
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._launching = 0
        self._lost_launches = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()  # those of them in which a worker has a job
        self._broken: PoolBrokenError | None = None
        self._paused = False

    def submit(
        self, job: Job, inputs: Sequence[Any], priority: tuple[float, ...], seconds: float | None = None
    ) -> asyncio.Future[Done]:
        """Queue ``job``; lower ``priority`` goes first, then first come, first served.

        A worker that takes longer than ``seconds`` for it is replaced, and the job fails with TaskHungError.
        """
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        if self._broken:
            future.set_exception(self._broken)
            return future
        heapq.heappush(self._queue, (priority, next(self._count), _Asked(job, inputs, seconds), future))
        self._pump()
        return future

    def pause(self, paused: bool) -> None:
        """Begin nothing more of what is queued, until ``pause(False)``."""
        self._paused = paused
        self._pump()

    def warm_up(self) -> None:
        """Launch the first worker ahead of its work: loading a model takes longer than finding it out."""
        if not (self._idle or self._busy or self._launching) and self._most:
            self._start()

    def state(self) -> PoolState:
        """What the pool is doing now."""
        return PoolState(
            queued=len(self._queue),
            running=len(self._busy),
            workers=len(self._idle) + len(self._busy),
            launching=self._launching,
            most=self._most,
        )

    async def close(self, *, settled: bool = False) -> None:
        """Drop what is queued and let all workers go.

        ``settled``: wait until no worker has a job any more, for what nobody waits for is still written.
        """
        self._most = 0
        self._queue.clear()
        workers = [*self._idle, *self._busy]
        if settled:
            for worker in workers:
                worker.close()
            await asyncio.gather(*self._serving, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not settled:
            for worker in workers:
                worker.close()
        self._idle.clear()
        self._busy.clear()
        self._launching = 0  # a launch that was cancelled before it began has not counted itself out

    def _pump(self) -> None:
        if self._paused:
            return
        while self._queue and (self._idle or self._queue[0][-1].cancelled()):
            _, _, asked, future = heapq.heappop(self._queue)
            if future.cancelled():
                continue
            worker = self._idle.pop()
            self._busy.add(worker)
            serving = self._keep(self._serve(worker, asked, future))
            self._serving.add(serving)
            serving.add_done_callback(self._serving.discard)
        alive = len(self._busy) + len(self._idle) + self._launching
        for _ in range(min(len(self._queue) - self._launching, self._most - alive)):
            self._start()

    def _start(self) -> None:
        self._launching += 1
        self._keep(self._launch())

    def _keep(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _launch(self) -> None:
        try:
            worker = await self._launcher.launch()
        except WorkerLostError as error:
            self._lost_launches += 1
            if self._lost_launches >= _MAX_LOST_LAUNCHES:
                self._break(error)
        except Exception as error:
            self._break(error)
        else:
            self._lost_launches = 0
            self._idle.append(worker)
        finally:
            self._launching -= 1
        self._pump()

    async def _serve(self, worker: Worker, asked: "_Asked", future: asyncio.Future[Done]) -> None:
        try:
            async with asyncio.timeout(asked.seconds):
                done = await worker.call(asked.job, asked.inputs)
        except TimeoutError:
            self._dismiss(worker)
            if not future.done():
                error = TaskHungError(
                    f"{asked.job.task.key} should take less than {asked.seconds:.0f} s, but did not end"
                )
                future.set_result(Done(outcome=Failure.of(error)))
        except WorkerLostError as error:
            self._dismiss(worker)
            if not future.done():
                future.set_exception(error)
        except Exception as error:  # a failed job is a result: a worker that raises is in no known state
            self._dismiss(worker)
            if not future.done():
                future.set_result(Done(outcome=Failure.of(error)))
        else:
            if isinstance(done.outcome, Failure) and done.outcome.kind == OUT_OF_MEMORY:
                self._dismiss(worker)  # what it holds on to by now may be what the next one lacks
            else:
                self._busy.discard(worker)
                self._idle.append(worker)
            if not future.done():
                future.set_result(done)
        self._pump()

    def _dismiss(self, worker: Worker) -> None:
        self._busy.discard(worker)
        worker.close()

    def _break(self, error: Exception) -> None:
        self._broken = PoolBrokenError(f"no worker for stage {self.stage} could be started: {error}")
        self._broken.__cause__ = error
        while self._queue:
            future = heapq.heappop(self._queue)[-1]
            if not future.done():
                future.set_exception(self._broken)

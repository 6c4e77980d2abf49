"""In-process workers: each is a thread with an actor of its own. No Ray; the single-process path."""

import asyncio
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.nodes import Nodes
from actors.pool import Pool
from actors.registry import actor_class
from actors.work import Done, StageActor
from cluster.capacity import Seen
from cluster.placement import Placement
from ltx_ray.models.weight_files import LOADING
from ltx_ray.run import RunSpec
from ltx_ray.types import Job, Stage


class LocalWorker:
    """An actor that lives in one thread of this process."""

    node = ""

    def __init__(self, threads: ThreadPoolExecutor, actor: StageActor) -> None:
        self._threads = threads
        self._actor = actor

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """Do ``job`` in the worker's thread; payloads are handed on as they are."""
        loop = asyncio.get_running_loop()
        outcome, *parts = await loop.run_in_executor(self._threads, self._actor.run, job, *inputs)
        return Done(outcome=outcome, parts=tuple(parts))

    def close(self) -> None:
        """End the thread after the job that it may have."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class LocalLauncher:
    """Makes in-process workers of one stage."""

    def __init__(self, stage: Stage, run: RunSpec) -> None:
        self._stage = stage
        self._run = run

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> LocalWorker:
        """A thread, and an actor made in it (torch keeps its number of threads per thread)."""
        placed()
        threads = ThreadPoolExecutor(1, thread_name_prefix=f"ltx-ray-{self._stage}")
        loop = asyncio.get_running_loop()
        actor = await loop.run_in_executor(threads, self._make)
        return LocalWorker(threads, actor)

    def _make(self) -> StageActor:
        # One at a time, and while no other loads what it needs later.
        with LOADING:
            return actor_class(self._stage)(self._run)


class LocalSite:
    """This process."""

    def pools(self, run: RunSpec, placement: Placement, nodes: Nodes) -> dict[Stage, Pool]:
        """A pool of threads for each stage."""
        return {
            stage: Pool(stage, LocalLauncher(stage, run), placement.sizes[stage], nodes) for stage in Stage
        }

    async def look(self) -> Seen:
        """There is but one."""
        return Seen(living=frozenset({LocalWorker.node}), hosts={LocalWorker.node: socket.gethostname()})

"""Simulated workers: they sleep as long as a task would take. The coordinator over them is the real one.

With ``VirtualTimeLoop`` the sleeping takes no time: whenever nothing is left to do, the clock jumps to the
next timer. Nothing else may wait for the outside world then, so ledger and publisher write inline.
"""

import asyncio
import gc
import selectors
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from actors.nodes import Nodes
from actors.pool import Pool
from actors.work import PARTS, Done, Failure
from ltx_ray.errors import WorkerLostError
from ltx_ray.types import Artefact, Job, Receipt, Stage

T = TypeVar("T")

# Objects more than at the last collection of garbage before the next one. A simulation makes hardly a cycle,
# while full collections, of all that a large cluster is, took half of its time at Python's own 700.
_SELDOM = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of one attempt of a task."""

    seconds: float
    failure: Failure | None = None
    lost: bool = False  # the worker goes away in mid-work


FateOf = Callable[[Job], Fate]


class SimulatedWorker:
    """A worker that sleeps."""

    def __init__(self, stage: Stage, fate_of: FateOf, node: str = "") -> None:
        self._stage = stage
        self._fate_of = fate_of
        self.node = node

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """Sleep as long as the job's fate says, and end as it says."""
        fate = self._fate_of(job)
        await asyncio.sleep(fate.seconds)
        if fate.lost:
            raise WorkerLostError(f"simulated loss of a {self._stage} worker")
        if fate.failure is not None:
            return Done(outcome=fate.failure)
        artefact = Artefact(name=job.output, sha256="0" * 64, bytes=0) if job.output else None
        receipt = Receipt(
            shot_id=job.shot.id,
            key=job.task.key,
            attempt=job.attempt,
            seconds=fate.seconds,
            cpu_seconds=fate.seconds,
            peak_bytes=0,
            held_bytes=0,
            node="simulated",
            device="simulated",
            pid=0,
            artefact=artefact,
        )
        return Done(outcome=receipt, parts=tuple(range(PARTS[self._stage])))

    def close(self) -> None:
        """Nothing to let go of."""


class SimulatedLauncher:
    """Makes simulated workers."""

    def __init__(self, stage: Stage, fate_of: FateOf, start_seconds: float) -> None:
        self._stage = stage
        self._fate_of = fate_of
        self._start_seconds = start_seconds

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> SimulatedWorker:
        """A worker, after the time that its start takes."""
        placed()
        await asyncio.sleep(self._start_seconds)
        return SimulatedWorker(self._stage, self._fate_of)


def simulated_pools(
    sizes: dict[Stage, int], fate_of: FateOf, start_seconds: float = 0.0
) -> dict[Stage, Pool]:
    """A pool of simulated workers for each stage."""
    nodes = Nodes()
    return {
        stage: Pool(stage, SimulatedLauncher(stage, fate_of, start_seconds), sizes[stage], nodes)
        for stage in Stage
    }


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps over every wait."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.virtual_seconds = 0.0

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.virtual_seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing; a time-out moves the loop's clock instead."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen: the simulation is stuck")
        self._loop.virtual_seconds += max(timeout, 0.0)
        return super().select(0)


def run_virtually(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` in virtual time."""
    loop = VirtualTimeLoop()
    usual = gc.get_threshold()
    gc.set_threshold(_SELDOM, *usual[1:])
    try:
        return loop.run_until_complete(work)
    finally:
        gc.set_threshold(*usual)
        loop.close()

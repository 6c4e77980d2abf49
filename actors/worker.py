"""What a pool asks of its workers, be they Ray actors, threads of this process, or simulated."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from actors.work import Done
from ltx_ray.errors import LtxRayError
from ltx_ray.types import Job


class Worker(Protocol):
    """One actor of a stage."""

    @property
    def node(self) -> str:
        """Names the machine that it lives on; "" where there is but one."""

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """Do ``job``. Raises WorkerLostError where the actor went away meanwhile."""

    def close(self) -> None:
        """Let the actor go; a call that it is in returns or raises once it has gone. May be called twice."""


class Launcher(Protocol):
    """Makes workers of one stage."""

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> Worker:
        """A worker that is ready, on none of the ``avoided`` nodes if that can be had. ``placed`` is called
        as soon as there is a place for it, before it loads what it needs. Raises what its start raised,
        WorkerLostError if it vanished."""


class PoolBrokenError(LtxRayError):
    """No worker of a stage can be made; nothing of that stage can ever be done."""

    kind = "pool"

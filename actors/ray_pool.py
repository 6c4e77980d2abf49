"""Workers and the coordinator's host as Ray actors. Payloads stay in Ray's object store; receipts travel.

Ray retries nothing itself (``max_restarts=0``, ``max_task_retries=0``): the coordinator decides.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import (
    ObjectLostError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayTaskError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.host import Host, RenderJob
from actors.nodes import Nodes
from actors.pool import Pool
from actors.progress import Progress, Summary
from actors.recycling import Recycling
from actors.registry import actor_class, class_name
from actors.work import PARTS, Done, Failure
from cluster.capacity import Seen, Space
from cluster.census import ACCELERATOR_LABEL, MARKET_LABEL, NODE_LABEL, census
from cluster.placement import Placement
from ltx_ray.errors import InputLostError, LtxRayError, WorkerLostError
from ltx_ray.run import RunSpec
from ltx_ray.types import Job, Stage

_ANYWHERE = {NODE_LABEL: "!in(none)"}  # where a selector must not be empty


@dataclass(frozen=True, slots=True)
class Terms:
    """What an actor of a stage asks of its place."""

    space: Space
    accelerator: str | None = None  # type of its GPU
    market: str | None = None  # where it rather is, if there is such a place

    def options(self, avoided: Collection[str]) -> dict[str, Any]:
        """As Ray's options of an actor, on none of the ``avoided`` nodes."""
        labels: dict[str, str] = {}
        if avoided:
            labels[NODE_LABEL] = f"!in({','.join(sorted(avoided))})"
        if self.accelerator and self.space.gpus:
            labels[ACCELERATOR_LABEL] = self.accelerator
        options: dict[str, Any] = {"num_cpus": self.space.cpus, "num_gpus": self.space.gpus}
        if self.market:
            options["fallback_strategy"] = [{"label_selector": labels or _ANYWHERE}]
            labels = {**labels, MARKET_LABEL: self.market}
        return {**options, "label_selector": labels} if labels else options


class _Shell:
    """Makes the stage's actor where it runs: the coordinator's process must not import torch for it."""

    def node(self) -> str:
        """Where it is: answers once it has a place."""
        return str(ray.get_runtime_context().get_node_id())

    def load(self, stage: Stage, run: RunSpec) -> str:
        """Make the actor; answers once it is ready."""
        self._actor = actor_class(stage)(run)
        return self._actor.ready()

    def run(self, job: Job, *inputs: Any) -> tuple[Any, ...]:
        return self._actor.run(job, *inputs)


def _shell(stage: Stage) -> type[_Shell]:
    """The shell under the name of the actor's class, which is what Ray shows of a process."""
    return type(class_name(stage), (_Shell,), {})


class RayWorker:
    """A Ray actor of one stage."""

    def __init__(self, stage: Stage, actor: Any, node: str) -> None:
        self._stage = stage
        self._actor = actor
        self.node = node

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """Run ``job`` on the actor. Inputs that are object refs are resolved on the actor's node."""
        refs = self._actor.run.options(num_returns=1 + PARTS[self._stage]).remote(job, *inputs)
        receipt, *parts = refs if isinstance(refs, list) else [refs]
        try:
            # A tuple of one stays a tuple: Ray unpacks only where it makes several objects.
            outcome = await receipt if parts else (await receipt)[0]
        except RayActorError as error:
            raise WorkerLostError(f"the {self._stage} actor was lost: {_first_line(error)}") from error
        except (ObjectLostError, OwnerDiedError) as error:
            return Done(outcome=_lost(error))
        except RayTaskError as error:
            if isinstance(error.cause, (ObjectLostError, OwnerDiedError)):
                return Done(outcome=_lost(error))
            raise WorkerLostError(f"the {self._stage} actor failed: {_first_line(error)}") from error
        return Done(outcome=outcome, parts=tuple(parts))

    def close(self) -> None:
        """Kill the actor's process."""
        ray.kill(self._actor, no_restart=True)


class RayLauncher:
    """Spawns Ray actors of one stage; one that cannot be placed stays pending and makes the cluster grow."""

    def __init__(self, stage: Stage, run: RunSpec, terms: Terms) -> None:
        self._stage = stage
        self._run = run
        self._terms = terms

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> RayWorker:
        """An actor whose parts are loaded. Ray itself puts none on a node that is drained."""
        shell: Any = ray.remote(_shell(self._stage))
        asked = self._terms.options(avoided)
        actor = shell.options(max_restarts=0, max_task_retries=0, **asked).remote()
        try:
            node = await actor.node.remote()
            placed()
            await actor.load.remote(self._stage, self._run)
        except (RayActorError, OutOfMemoryError) as error:  # by the latter Ray kills for want of memory
            raise WorkerLostError(f"a {self._stage} actor was lost at its start: {error}") from error
        except asyncio.CancelledError:  # nobody needs it any more: it should make no cluster grow
            ray.kill(actor, no_restart=True)
            raise
        return RayWorker(self._stage, actor, node)


@dataclass(frozen=True, slots=True)
class RaySite:
    """A Ray cluster."""

    accelerator: str | None = None  # type of its GPUs

    def pools(self, run: RunSpec, placement: Placement, nodes: Nodes) -> dict[Stage, Pool]:
        """A pool of Ray actors for each stage."""
        growth, market = run.config.limits.max_actor_growth, run.config.pools.market
        return {
            stage: Pool(
                stage,
                RayLauncher(
                    stage, run, Terms(placement.space(stage), self.accelerator, market.get(stage.value))
                ),
                placement.sizes[stage],
                nodes,
                Recycling(growth),
            )
            for stage in Stage
        }

    async def look(self) -> Seen:
        """Which nodes live, which the cluster wants back (preempted, or idle and no more needed), and what
        the others have."""
        return await asyncio.to_thread(census, self.accelerator)


class RemoteHost:
    """A ``Host`` that is a Ray actor, seen from the driver. Its death ends the actors that it owns."""

    def __init__(self, job: RenderJob, site: RaySite) -> None:
        # It only decides, and lives beside the driver where it can: without that it is of no use.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._actor: Any = (
            ray.remote(Host)
            .options(num_cpus=0, max_restarts=0, max_task_retries=0, scheduling_strategy=here)
            .remote(job, site)
        )

    async def run(self) -> Summary:
        """Render. Raises WorkerLostError where the coordinator's process went away."""
        try:
            summary: Summary = await self._actor.run.remote()
        except RayActorError as error:
            raise WorkerLostError(f"the coordinator was lost: {_first_line(error)}") from error
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, LtxRayError) else error) from None
        return summary

    async def progress(self) -> Progress | None:
        """How far the run is; None while nobody can tell."""
        try:
            progress: Progress | None = await self._actor.progress.remote()
        except RayActorError:
            return None
        return progress

    async def stop(self) -> None:
        """Stop soon."""
        with suppress(RayActorError):
            await self._actor.stop.remote()


def _lost(error: Exception) -> Failure:
    return Failure(kind=InputLostError.kind, message=_first_line(error), traceback=str(error), retryable=True)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

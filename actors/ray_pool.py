"""Workers and the coordinator's host as Ray actors. Payloads stay in Ray's object store; receipts travel.

Ray retries nothing itself (``max_restarts=0``, ``max_task_retries=0``): the coordinator decides.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
import ray._private.state
from ray.exceptions import (
    ObjectLostError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayTaskError,
)

from actors.host import Host, RenderJob
from actors.nodes import Nodes
from actors.pool import Pool
from actors.progress import Progress, Summary
from actors.recycling import Recycling
from actors.registry import actor_class, class_name
from actors.site import Seen
from actors.work import PARTS, Done, Failure
from ltx_ray.errors import InputLostError, LtxRayError, WorkerLostError
from ltx_ray.run import RunSpec
from ltx_ray.types import Job, Stage

# Ray's NodeDeathInfo.Reason, as its table of nodes has it.
_DEATHS = {1: "ended", 3: "preempted", 4: "idle"}
_NODE_LABEL = "ray.io/node-id"  # Ray labels every node so


@dataclass(frozen=True, slots=True)
class Share:
    """What one actor of a stage takes of a node, in Ray's logical units."""

    cpus: float
    gpus: float = 0.0


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

    def __init__(self, stage: Stage, run: RunSpec, share: Share) -> None:
        self._stage = stage
        self._run = run
        self._share = share

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> RayWorker:
        """An actor whose parts are loaded. Ray itself puts none on a node that is drained."""
        options: dict[str, Any] = {
            "num_cpus": self._share.cpus,
            "num_gpus": self._share.gpus,
            "max_restarts": 0,
            "max_task_retries": 0,
        }
        if avoided:
            options["label_selector"] = {_NODE_LABEL: f"!in({','.join(sorted(avoided))})"}
        shell: Any = ray.remote(_shell(self._stage))
        actor = shell.options(**options).remote()
        try:
            node = await actor.node.remote()
            placed()
            await actor.load.remote(self._stage, self._run)
        except (RayActorError, OutOfMemoryError) as error:  # by the latter Ray kills for want of memory
            raise WorkerLostError(f"a {self._stage} actor was lost at its start: {error}") from error
        return RayWorker(self._stage, actor, node)


@dataclass(frozen=True, slots=True)
class RaySite:
    """A Ray cluster; what each actor takes of a node stands here."""

    cpus: dict[Stage, float]
    gpus: dict[Stage, float]

    def pools(self, run: RunSpec, sizes: dict[Stage, int], nodes: Nodes) -> dict[Stage, Pool]:
        """A pool of Ray actors for each stage; ``sizes`` says how many actors at most."""
        growth = run.config.limits.max_actor_growth
        return {
            stage: Pool(
                stage,
                RayLauncher(stage, run, Share(self.cpus[stage], self.gpus[stage])),
                sizes[stage],
                nodes,
                Recycling(growth),
            )
            for stage in Stage
        }

    async def look(self) -> Seen:
        """Which nodes live, and which the cluster wants back: preempted, or idle and no more needed."""
        return await asyncio.to_thread(_seen)


def _seen() -> Seen:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    # As Ray Train asks for it: there is no public way yet.
    draining = frozenset(ray._private.state.state.get_draining_nodes())
    return Seen(
        living=frozenset(node["NodeID"] for node in nodes if node["Alive"]),
        draining=draining,
        hosts={node["NodeID"]: node["NodeManagerHostname"] for node in nodes if node["Alive"]},
        gone={
            node["NodeID"]: _DEATHS.get(node.get("DeathReason", 0), "lost")
            for node in nodes
            if not node["Alive"]
        },
    )


class RemoteHost:
    """A ``Host`` that is a Ray actor, seen from the driver. Its death ends the actors that it owns."""

    CPUS = 0.1  # it only decides

    def __init__(self, job: RenderJob, site: RaySite) -> None:
        options = {"num_cpus": self.CPUS, "max_restarts": 0, "max_task_retries": 0}
        self._actor: Any = ray.remote(Host).options(**options).remote(job, site)

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

"""Workers as Ray actors. Payloads stay in Ray's object store; receipts travel.

Ray retries nothing itself (``max_restarts=0``, ``max_task_retries=0``): the coordinator decides.
"""

import asyncio
import pickle
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    ObjectLostError,
    OutOfMemoryError,
    OwnerDiedError,
    RayActorError,
    RayTaskError,
)

from actors.fetching import Fetching
from actors.nodes import Nodes
from actors.pool import Pool
from actors.recycling import Recycling
from actors.registry import actor_class, class_name
from actors.work import PARTS, Done, Failure, StageActor
from cluster import node_probe
from cluster.capacity import Seen, Space
from cluster.census import ACCELERATOR_LABEL, MARKET_LABEL, NODE_LABEL, accelerator_on, census
from cluster.fitness import Fitness
from cluster.inspect import probes_by_value
from cluster.placement import Placement
from ltx_ray.errors import InputLostError, PreflightError, WorkerLostError
from ltx_ray.run import RUN_FILE, RunSpec, keep_accelerator
from ltx_ray.storage import Store
from ltx_ray.types import Job, Stage

Actors = Callable[[Stage], Callable[[RunSpec], StageActor]]  # what makes the actors of a stage
_ANYWHERE = {NODE_LABEL: "!in(none)"}  # where a selector must not be empty


@dataclass(frozen=True, slots=True)
class Terms:
    """What an actor of a stage asks of its place."""

    space: Space
    market: str | None = None  # where it rather is, if there is such a place

    def options(self, avoided: Collection[str], accelerator: str | None) -> dict[str, Any]:
        """As Ray's options of an actor, on none of the ``avoided`` nodes; its GPU is an ``accelerator``."""
        labels: dict[str, str] = {}
        if avoided:
            labels[NODE_LABEL] = f"!in({','.join(sorted(avoided))})"
        if accelerator and self.space.gpus:
            labels[ACCELERATOR_LABEL] = accelerator
        options: dict[str, Any] = {"num_cpus": self.space.cpus, "num_gpus": self.space.gpus}
        if self.market:
            options["fallback_strategy"] = [{"label_selector": labels or _ANYWHERE}]
            labels = {**labels, MARKET_LABEL: self.market}
        return {**options, "label_selector": labels} if labels else options


def _shell(stage: Stage) -> type[Any]:
    """What makes the stage's actor where it runs: the coordinator's process must not import torch for it.

    A class that is made here is sent by value, and says nothing of ours: so a node that has no ltx_ray, or
    another one, can tell. It has the name of the actor's class, which is what Ray shows of a process.
    """

    class Shell:
        def node(self) -> str:
            """Where it is: answers once it has a place."""
            import ray

            return str(ray.get_runtime_context().get_node_id())

        def ask(self, question: "Callable[..., Any]", *words: Any) -> Any:
            """What ``question`` says there."""
            return question(*words)

        def load(self, stage: Any, run: Any, actors: Any) -> str:
            """Make the actor; answers once it is ready."""
            self._actor = actors(stage)(run)
            return str(self._actor.ready())

        def run(self, job: bytes, *inputs: Any) -> "tuple[Any, ...]":
            import pickle

            made: tuple[Any, ...] = self._actor.run(pickle.loads(job), *inputs)
            return made

    return type(class_name(stage), (Shell,), {})


class RayWorker:
    """A Ray actor of one stage."""

    def __init__(self, stage: Stage, actor: Any, node: str) -> None:
        self._stage = stage
        self._actor = actor
        self._run = actor.run.options(num_returns=1 + PARTS[stage])
        self.node = node

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """Run ``job`` on the actor. Inputs that are object refs are resolved on the actor's node."""
        # Ray looks at each object that it pickles with Python code of its own; bytes are only copied.
        refs = self._run.remote(pickle.dumps(job, pickle.HIGHEST_PROTOCOL), *inputs)
        receipt, *parts = refs if isinstance(refs, list) else [refs]
        try:
            # A tuple of one stays a tuple: Ray unpacks only where it makes several objects.
            outcome = await receipt if parts else (await receipt)[0]
        except RayActorError as error:
            raise WorkerLostError(f"the {self._stage} actor was lost: {first_line(error)}") from error
        except (ObjectLostError, OwnerDiedError) as error:
            return Done(outcome=_lost(error))
        except RayTaskError as error:
            if isinstance(error.cause, (ObjectLostError, OwnerDiedError)):
                return Done(outcome=_lost(error))
            raise WorkerLostError(f"the {self._stage} actor failed: {first_line(error)}") from error
        return Done(outcome=outcome, parts=tuple(parts))

    def close(self) -> None:
        """Kill the actor's process."""
        ray.kill(self._actor, no_restart=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What must hold of a node before an actor of a run begins there; shared by all launchers of the run."""

    run: RunSpec
    site: "RaySite"
    fetching: Fetching

    async def problem(self, actor: Any, node: str) -> str | None:
        """Why the actor that was placed on ``node`` cannot work there. Weights of the hub that are not there
        yet are fetched."""
        run = self.run
        words = (self.site.versions, run.out, RUN_FILE, self.site.run_hash, run.model_files)
        try:
            with probes_by_value():
                asked = actor.ask.remote(node_probe.unfit, *words)
            problem: str | None = await asked
            if problem is not None:
                return problem
            async with self.fetching.on(node):
                problem = await actor.ask.remote(node_probe.model_problem, run.checkpoint)
                if problem is None or run.revision is None:
                    return problem
                async with self.fetching.slot():
                    await actor.ask.remote(node_probe.fetch_model, run.checkpoint)
        except RayTaskError as error:
            return _last_line(error)
        return None


class RayLauncher:
    """Spawns Ray actors of one stage; one that cannot be placed stays pending and makes the cluster grow."""

    def __init__(self, stage: Stage, terms: Terms, entry: Entry, actors: Actors) -> None:
        self._stage = stage
        self._terms = terms
        self._entry = entry
        self._actors = actors
        # One class for all of them: Ray reads through the code of each class that it meets and sends it to
        # all nodes, which takes longer than all else of a launch.
        self._shell: Any = ray.remote(_shell(stage))

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> RayWorker:
        """An actor whose parts are loaded, on a node that can do the work. Ray itself puts none on a node
        that is drained. Raises PreflightError where all nodes that there are cannot."""
        site = self._entry.site
        while True:
            asked = self._terms.options({*avoided, *site.unfit()}, site.accelerator)
            actor = self._shell.options(max_restarts=0, max_task_retries=0, **asked).remote()
            try:
                node = await actor.node.remote()
                if self._terms.space.gpus:
                    kind = await asyncio.to_thread(accelerator_on, node)
                    if not await site.uses(kind, self._entry.run.out):
                        ray.kill(actor, no_restart=True)
                        continue
                problem = await self._entry.problem(actor, node)
                if problem is None:
                    placed()
                    await actor.load.remote(self._stage, self._entry.run, self._actors)
                    return RayWorker(self._stage, actor, node)
            except (RayActorError, OutOfMemoryError) as error:  # by the latter Ray kills for want of memory
                raise WorkerLostError(f"a {self._stage} actor was lost at its start: {error}") from error
            except asyncio.CancelledError:  # nobody needs it any more: it should make no cluster grow
                ray.kill(actor, no_restart=True)
                raise
            ray.kill(actor, no_restart=True)
            await site.exclude(node, problem, self._terms.space)


@dataclass(slots=True, kw_only=True)
class RaySite:
    """A Ray cluster."""

    versions: dict[str, str | None]  # that the run has, and so must every node
    run_hash: str  # SHA-256 of the file in OUT that says whose it is
    accelerator: str | None = None  # type of the GPUs that are used; None: the first one decides
    grows: bool = False  # it may add nodes
    fitness: Fitness = field(default_factory=Fitness)
    actors: Actors = actor_class  # others than the stages' own only where they are measured

    def pools(self, run: RunSpec, placement: Placement, nodes: Nodes) -> dict[Stage, Pool]:
        """A pool of Ray actors for each stage."""
        config = run.config.pools
        entry = Entry(run=run, site=self, fetching=Fetching(config.max_downloads))
        return {
            stage: Pool(
                stage,
                RayLauncher(
                    stage,
                    Terms(placement.space(stage), config.market.get(stage.value)),
                    entry,
                    self.actors,
                ),
                placement.sizes[stage],
                nodes,
                Recycling(run.config.limits.max_actor_growth),
            )
            for stage in Stage
        }

    async def look(self) -> Seen:
        """Which nodes live, which the cluster wants back (preempted, or idle and no more needed), and what
        the others have."""
        seen = await asyncio.to_thread(census, self.accelerator)
        return self.fitness.applied(seen, time.monotonic())

    async def uses(self, kind: str | None, out: str) -> bool:
        """Whether the run uses GPUs of this type (None: Ray does not tell). Where none was known when it
        began, the first that an actor finds is that of ``out`` from then on."""
        if kind is None or kind == self.accelerator:
            return True
        if self.accelerator is None:
            kept = await asyncio.to_thread(keep_accelerator, Store(out), kind)
            self.accelerator = self.accelerator or kept
        return kind == self.accelerator

    def unfit(self) -> Collection[str]:
        """Nodes on which no actor should be launched."""
        return self.fitness.unfit(time.monotonic())

    async def exclude(self, node: str, why: str, wanted: Space) -> None:
        """``node`` cannot do this run's work. Raises PreflightError where none that holds ``wanted`` can."""
        self.fitness.exclude(node, why, time.monotonic())
        seen = await asyncio.to_thread(census, self.accelerator)
        reason = self.fitness.hopeless(seen, wanted, grows=self.grows, now=time.monotonic())
        if reason is not None:
            raise PreflightError(reason)


def _lost(error: Exception) -> Failure:
    return Failure(kind=InputLostError.kind, message=first_line(error), traceback=str(error), retryable=True)


def _last_line(error: Exception) -> str:
    """Of an error that a task raised: what stands before it is its traceback."""
    return str(error).strip().rpartition("\n")[2] or type(error).__name__


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

"""The coordinator's host as a Ray actor."""

from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.host import Host, RenderJob
from actors.progress import Progress, Summary
from actors.ray_pool import RaySite, first_line
from ltx_ray.errors import LtxRayError, WorkerLostError


class RemoteHost:
    """A ``Host`` that is a Ray actor, seen from the driver. Its death ends the actors that it owns."""

    def __init__(self, job: RenderJob, site: RaySite) -> None:
        # It only decides, and lives beside the driver: without that it is of no use, and no other node's end
        # is its end. Hard, for an actor that takes no CPU Ray puts anywhere where the affinity is soft.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor: Any = (
            ray.remote(Host)
            .options(num_cpus=0, max_restarts=0, max_task_retries=0, scheduling_strategy=here)
            .remote(job, site)
        )

    async def run(self) -> Summary:
        """Render; then its process is gone. Raises WorkerLostError where it went away before that."""
        try:
            summary: Summary = await self._actor.run.remote()
        except RayActorError as error:
            raise WorkerLostError(f"the coordinator was lost: {first_line(error)}") from error
        except RayTaskError as error:
            raise (error.cause if isinstance(error.cause, LtxRayError) else error) from None
        finally:
            # All is written. Left to itself, an async actor that nobody refers to any more may hang in Ray's
            # own end of it, joining threads, for as long as the cluster lives.
            ray.kill(self._actor, no_restart=True)
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

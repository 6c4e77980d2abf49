"""Where the workers of a run live: one process, or a Ray cluster."""

from typing import Protocol

from actors.nodes import Nodes
from actors.pool import Pool
from cluster.capacity import Seen
from cluster.placement import Placement
from ltx_ray.run import RunSpec
from ltx_ray.types import Stage


class Site(Protocol):
    """Made where the command was given, used where the coordinator lives: it travels by pickle."""

    def pools(self, run: RunSpec, placement: Placement, nodes: Nodes) -> dict[Stage, Pool]:
        """A pool for each stage over the same ``nodes``: how many actors at first, and what each takes."""

    async def look(self) -> Seen:
        """Which nodes there are now."""

"""Where the workers of a run live: one process, or a Ray cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from actors.nodes import Nodes
from actors.pool import Pool
from ltx_ray.run import RunSpec
from ltx_ray.types import Stage


@dataclass(frozen=True, slots=True)
class Seen:
    """Nodes at one moment, by ``Worker.node`` of what lives there."""

    living: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()  # of them: those that will soon be gone
    hosts: Mapping[str, str] = field(default_factory=dict)  # names of the machines
    # Why others are gone: "preempted", "idle" (the cluster shrank), "ended" (by request) or "lost".
    gone: Mapping[str, str] = field(default_factory=dict)


class Site(Protocol):
    """Made where the command was given, used where the coordinator lives: it travels by pickle."""

    @property
    def gpus(self) -> dict[Stage, float]:
        """GPUs that one actor takes."""

    def pools(self, run: RunSpec, sizes: dict[Stage, int], nodes: Nodes) -> dict[Stage, Pool]:
        """A pool for each stage over the same ``nodes``; ``sizes`` says how many actors at most."""

    async def look(self) -> Seen:
        """Which nodes there are now."""

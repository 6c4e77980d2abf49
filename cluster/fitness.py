"""Nodes on which no actor of a run can work, found out as each was to begin there: plain bookkeeping.

A node joins while a run is at work, and nobody has looked at it: it may have another version, another disk
in place of OUT, or no way to the weights. It is told by its name and left out, and no task is tried there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cluster.capacity import Capacity, Seen, Space

_LAPSES = 600.0  # seconds after which a node is asked again: somebody may have mended it
_ENOUGH = 3  # nodes that were unfit, one after the other, where a cluster adds nodes: the next will be, too


@dataclass(frozen=True, slots=True)
class _Trouble:
    why: str
    until: float


@dataclass(slots=True)
class Fitness:
    """Of the nodes of one run. Times are the caller's, in seconds."""

    _troubles: dict[str, _Trouble] = field(default_factory=dict)

    def exclude(self, node: str, why: str, now: float) -> None:
        """``node`` gets no actor of this run for a while."""
        self._troubles[node] = _Trouble(why, now + _LAPSES)

    def unfit(self, now: float) -> Mapping[str, str]:
        """The nodes that are left out, and why."""
        self._troubles = {node: each for node, each in self._troubles.items() if each.until > now}
        return {node: trouble.why for node, trouble in self._troubles.items()}

    def applied(self, seen: Seen, now: float) -> Seen:
        """``seen``, where the nodes that are left out carry nothing."""
        unfit = {node: why for node, why in self.unfit(now).items() if node in seen.living}
        if not unfit:
            return seen
        kept = [number for number, node in enumerate(seen.staying) if node not in unfit]
        capacity = Capacity(
            nodes=tuple(seen.capacity.nodes[number] for number in kept),
            free=tuple(seen.capacity.free[number] for number in kept),
        )
        return replace(seen, capacity=capacity, unfit=unfit)

    def hopeless(self, seen: Seen, wanted: Space, *, grows: bool, now: float) -> str | None:
        """Why no actor that wants so much can have a place on a fit node; None: it can, now or later.

        ``grows``: the cluster may add nodes.
        """
        unfit = self.unfit(now)
        fits = zip(seen.staying, seen.capacity.nodes, strict=True)
        if any(space.holds(wanted) for node, space in fits if node not in unfit):
            return None
        if grows and len(unfit) < _ENOUGH:
            return None
        told = "; ".join(f"{seen.host(node)}: {why}" for node, why in unfit.items())
        return f"no node with {wanted} can do the work of this run ({told})"

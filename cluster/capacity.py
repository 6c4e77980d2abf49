"""What the nodes of a cluster have, and what an actor lacks that finds no place: plain numbers, no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_CENT = 1e-9  # Ray's shares are sums of floats


@dataclass(frozen=True, slots=True)
class Space:
    """Of one node, or wanted by one actor, in Ray's logical units."""

    cpus: float
    gpus: float = 0.0

    def holds(self, wanted: "Space") -> bool:
        """Whether ``wanted`` fits."""
        return wanted.cpus <= self.cpus + _CENT and wanted.gpus <= self.gpus + _CENT

    def __str__(self) -> str:
        return f"{self.gpus:g} GPU and {self.cpus:g} CPU" if self.gpus else f"{self.cpus:g} CPU"


@dataclass(frozen=True, slots=True)
class Capacity:
    """A cluster at one moment."""

    nodes: tuple[Space, ...] = ()  # in all, of each living node
    free: tuple[Space, ...] = ()  # of them, what nobody has; in the same order

    @property
    def cpus(self) -> float:
        """Of all nodes together."""
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        """Of all nodes together."""
        return sum(node.gpus for node in self.nodes)

    def lack(self, wanted: Space) -> str:
        """Why an actor that wants so much has no place: a clause for people."""
        if not any(node.holds(wanted) for node in self.nodes):
            most = max(self.nodes, key=lambda node: (node.gpus, node.cpus), default=None)
            largest = f"the largest has {most}" if most else "there is none"
            return f"no node has {wanted}: {largest}"
        free = [space for space in self.free if space.holds(wanted)]
        if free:
            return f"{wanted} are free on a node: it may be on its way"
        gpus, cpus = sum(space.gpus for space in self.free), sum(space.cpus for space in self.free)
        return f"no node has {wanted} free ({Space(round(cpus, 3), round(gpus, 3))} are free on all together)"


@dataclass(frozen=True, slots=True)
class Seen:
    """The nodes of a cluster at one moment, by their ids."""

    living: frozenset[str] = frozenset()
    draining: frozenset[str] = frozenset()  # of them: those that will soon be gone
    capacity: Capacity = Capacity()  # of the others; without nodes: not known, and it does not change
    accelerators: frozenset[str] = frozenset()  # types of the GPUs that there are
    hosts: Mapping[str, str] = field(default_factory=dict)  # names of the machines
    staying: tuple[str, ...] = ()  # whose ``capacity`` it is, in its order
    unfit: Mapping[str, str] = field(default_factory=dict)  # living ones that can do no work, and why
    # Why others are gone: "preempted", "idle" (the cluster shrank), "ended" (by request) or "lost".
    gone: Mapping[str, str] = field(default_factory=dict)

    def host(self, node: str) -> str:
        """A node as a person finds it: its machine, and the beginning of its id."""
        return f"{self.hosts[node]}/{node[:6]}" if node in self.hosts else node

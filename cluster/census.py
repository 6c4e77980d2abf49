"""Which nodes a Ray has, which of them it wants back, and what they have."""

from collections.abc import Iterable, Mapping
from typing import Any

import ray
import ray._private.state

from cluster.capacity import Capacity, Seen, Space

# Labels that Ray gives to every node, where they apply.
NODE_LABEL = "ray.io/node-id"
ACCELERATOR_LABEL = "ray.io/accelerator-type"
MARKET_LABEL = "ray.io/market-type"

# Ray's NodeDeathInfo.Reason, as its table of nodes has it.
_DEATHS = {1: "ended", 3: "preempted", 4: "idle"}


def census(accelerator: str | None = None) -> Seen:
    """The Ray to which this process is connected. GPUs of another type than ``accelerator`` do not count."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node for node in known if node["Alive"]]
    # As Ray Train asks for it: there is no public way yet.
    draining = frozenset(ray._private.state.state.get_draining_nodes())
    free = ray._private.state.available_resources_per_node()  # type: ignore[no-untyped-call]
    staying = [node for node in nodes if node["NodeID"] not in draining]
    strange = {
        node["NodeID"]
        for node in staying
        if accelerator and accelerator_type(node) not in (accelerator, None)
    }
    return Seen(
        living=frozenset(node["NodeID"] for node in nodes),
        draining=draining,
        capacity=Capacity(
            nodes=tuple(_space(node["Resources"], node["NodeID"] in strange) for node in staying),
            free=tuple(_space(free.get(node["NodeID"], {}), node["NodeID"] in strange) for node in staying),
        ),
        accelerators=frozenset(kind for node in staying if (kind := accelerator_type(node))),
        staying=tuple(node["NodeID"] for node in staying),
        hosts={node["NodeID"]: node["NodeManagerHostname"] for node in nodes},
        gone={
            node["NodeID"]: _DEATHS.get(node.get("DeathReason", 0), "lost")
            for node in known
            if not node["Alive"]
        },
    )


def one_of_each_type(nodes: Iterable[Mapping[str, Any]], here: str) -> list[str]:
    """Ids of living ``nodes``, as Ray tells them: one of each type that can carry an actor, and rather not
    ``here``. Nodes of a type have the same labels, CPUs and GPUs. Empty where ``here`` is all there is."""
    found: dict[tuple[Any, ...], str] = {}
    for node in sorted(nodes, key=lambda each: (each["NodeID"] == here, each["NodeID"])):
        space = _space(node["Resources"], is_strange=False)
        labels = sorted(each for each in node["Labels"].items() if each[0] != NODE_LABEL)
        if node["Alive"] and (space.cpus or space.gpus):
            found.setdefault((space, *labels), node["NodeID"])
    return [] if set(found.values()) <= {here} else list(found.values())


def accelerator_type(node: Mapping[str, Any]) -> str | None:
    """Of a node's GPUs, as Ray tells it; None: it has none, or Ray does not tell."""
    kind = node["Labels"].get(ACCELERATOR_LABEL) if node["Resources"].get("GPU") else None
    return str(kind) if kind else None


def accelerator_on(node: str) -> str | None:
    """``accelerator_type`` of the node with that id."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return next((accelerator_type(each) for each in known if each["NodeID"] == node), None)


def _space(resources: Mapping[str, float], is_strange: bool) -> Space:
    return Space(resources.get("CPU", 0.0), 0.0 if is_strange else resources.get("GPU", 0.0))

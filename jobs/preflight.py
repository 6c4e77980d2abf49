"""What is looked at before a run on a cluster begins: nothing is started, nothing is left.

Where there are several nodes, one of each type is asked, by the doctor's own probe; and whether the memory of
their GPUs will do is worked out. Where a run would fail, it is refused. Nodes that join later are asked as
an actor begins there (``actors/ray_pool.py``).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from cluster import node_probe
from cluster.facts import Machine, Node
from cluster.inspect import inspect_nodes, nodes_to_ask
from cluster.placement import Placement
from jobs.doctor_checks import Finding, State, check_output
from jobs.doctor_nodes import (
    check_disks,
    check_inputs_on_nodes,
    check_model_on_nodes,
    check_node_versions,
    check_output_on_nodes,
    machines_of,
)
from jobs.memory_check import cards_of, check_memory
from ltx_ray.errors import PreflightError
from ltx_ray.models.presence import ModelFacts
from ltx_ray.run import RunSpec
from ltx_ray.storage_probe import StoreProbe
from ltx_ray.types import Shot

_MOST_INPUTS = 16  # files that each node is asked for, of different folders


def look_at_nodes(run: RunSpec, shots: Callable[[], Iterable[Shot]]) -> tuple[Node, ...]:
    """Ask the nodes of the Ray to which this process is connected; empty where there are no others.

    Raises PreflightError where one of them could not do its part of ``run``, whose first rows ``shots`` has.
    """
    asked = nodes_to_ask()
    if not asked:
        return ()
    probe = StoreProbe(run.out)
    try:
        # Whether OUT can be used at all is told by who begins to write there.
        output = probe.try_out()
        file = (run.out, probe.name, probe.content) if output.problem is None else None
        nodes = inspect_nodes(asked, file, run.checkpoint, inputs_of(run, shots()))
    finally:
        probe.clear()
    here = Machine.of(node_probe.look(with_torch=False))
    findings = [] if output.problem else [check_output(output)]
    refuse(run.out, [*findings, *examine(here, nodes, run.model, output.is_local)])
    return nodes


def look(
    accelerator: str | None,
    run: RunSpec,
    gpus: float,
    placement: Placement,
    shots: Callable[[], Iterable[Shot]],
) -> None:
    """All of it. ``gpus``: that the run may take, all of the type ``accelerator``, as far as Ray tells types.
    Raises PreflightError."""
    nodes = look_at_nodes(run, shots)
    if run.device != "cuda":
        return
    if nodes:
        used = [node for node in nodes if node.gpus and accelerator in (node.accelerator, None)]
        seen = [gpu for node in used if node.machine for gpu in node.machine.gpus]
    else:
        seen = list(Machine.of(node_probe.look(with_torch=False)).gpus)
    cards = cards_of(seen, accelerator, gpus)
    if cards is not None:
        check_memory(run, placement, cards, shots())


def examine(here: Machine, nodes: Sequence[Node], model: str, is_local: bool) -> list[Finding]:
    """The doctor's findings on ``nodes``, of which the silent ones are left out: a node may be lost just now,
    and it is asked again before an actor begins there."""
    answered = [node for node in nodes if node.machine is not None]
    if not answered:
        return []
    return [
        check_node_versions(here, answered),
        check_output_on_nodes(nodes, is_local),
        check_inputs_on_nodes(answered),
        check_model_on_nodes(answered, ModelFacts(name=model)),
        check_disks(machines_of(answered)),
    ]


def refuse(out: str, findings: Iterable[Finding]) -> None:
    """Raise PreflightError where any of ``findings`` has failed, with all of those."""
    failed = [finding for finding in findings if finding.state is State.FAILED]
    if failed:
        told = "\n".join(f"- {each.check}: {each.found}. To do: {each.advice}" for each in failed)
        raise PreflightError(
            f"nodes of the cluster cannot do the work of this run, so nothing was begun:\n{told}\n"
            f"`ltx-ray doctor --address ... --output {out}` looks again, at every node"
        )


def inputs_of(run: RunSpec, shots: Iterable[Shot]) -> list[str]:
    """Files that every node is to read: what the model is made of besides its checkpoint, and of the rows'
    sounds and images one of each folder. Web servers are not asked: they are for a row to fail on."""
    folders: dict[str, str] = {}
    for shot in shots:
        for url in (shot.image, shot.audio):
            if url and not url.startswith(("http://", "https://")):
                folders.setdefault(str(PurePosixPath(url).parent), url)
        if len(folders) >= _MOST_INPUTS:
            break
    return [*run.model_files, *folders.values()]

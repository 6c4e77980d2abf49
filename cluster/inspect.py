"""Asks every living node of a Ray what it is like, by a small task that is pinned to it."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster import node_probe
from cluster.census import accelerator_type, one_of_each_type
from cluster.connect import connected
from cluster.facts import Clock, Machine, Node, Ray, is_loopback
from cluster.strangers import HEAD, NODE, is_dashboard_open, is_open
from ltx_ray.errors import ConfigError

ANSWER_SECONDS = 60.0  # a node starts a process to answer, and one with GPUs imports torch in another one
_CLOCK_SECONDS = 10.0
_CLOCK_ROUNDS = 3  # the quickest one is the most exact
_KNOCKERS = 32  # doors that are tried at a time


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered, or why it did not; and when, by this machine's clock, in seconds since 1970."""

    value: Any
    error: str | None
    asked: float
    answered: float


def visit_ray(address: str, output: tuple[str, str, bytes] | None, model: str) -> Ray:
    """Connect as ``connected`` does, and ``inspect_ray``. Raises ConfigError where no Ray answers."""
    try:
        with connected(address, 1.0):
            return inspect_ray(output, model)
    except RayError as error:
        raise ConfigError(
            f"--address {address}: the Ray there broke off ({_last_line(error)}); look into its logs, and "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH if it wants a token"
        ) from error


def inspect_ray(output: tuple[str, str, bytes] | None, model: str, seconds: float = ANSWER_SECONDS) -> Ray:
    """The Ray to which this process is connected. ``output`` and ``model`` are those of ``node_probe.look``.

    A node that has not answered in ``seconds`` is told as one that does not answer.
    """
    nodes = {entry["NodeID"]: entry for entry in ray.nodes() if entry["Alive"]}  # type: ignore[no-untyped-call]
    words = {key: (_session_folder(entry), output, model) for key, entry in nodes.items()}
    answers = ask_nodes(node_probe.look, words, seconds)
    well: dict[str, tuple[Any, ...]] = {key: () for key, answer in answers.items() if answer.error is None}
    rounds = [ask_nodes(node_probe.now, well, _CLOCK_SECONDS) for _ in range(_CLOCK_ROUNDS)]
    head = str(ray.get_runtime_context().gcs_address)
    doors = [f"{entry['NodeManagerAddress']}:{entry['NodeManagerPort']}" for entry in nodes.values()]
    with ThreadPoolExecutor(_KNOCKERS) as threads:
        opened = dict(zip(nodes, threads.map(lambda door: is_open(door, NODE), doors), strict=True))
    dashboard = _dashboard()
    return Ray(
        address=head,
        nodes=tuple(
            _node(
                entry,
                answers[key],
                clock_of([each[key] for each in rounds if key in each]),
                opened[key],
            )
            for key, entry in nodes.items()
        ),
        is_open=is_open(head, HEAD),
        dashboard=dashboard,
        # One on a loopback may be another machine's: from here it is another door.
        is_dashboard_open=is_dashboard_open(dashboard) if dashboard and not is_loopback(dashboard) else None,
    )


def nodes_to_ask() -> list[str]:
    """One node of each type of the Ray to which this process is connected, by their ids; none where the one
    of this process is all there is."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return one_of_each_type(nodes, str(ray.get_runtime_context().get_node_id()))


def inspect_nodes(
    asked: Collection[str],
    output: tuple[str, str, bytes] | None,
    model: str,
    inputs: Collection[str],
    seconds: float = ANSWER_SECONDS,
) -> tuple[Node, ...]:
    """What the nodes ``asked`` are like, without clocks and doors; the others as of ``node_probe.look``."""
    entries = {entry["NodeID"]: entry for entry in ray.nodes()}  # type: ignore[no-untyped-call]
    known = [key for key in asked if key in entries]
    words = {key: (_session_folder(entries[key]), output, model, tuple(inputs), False) for key in known}
    answers = ask_nodes(node_probe.look, words, seconds)
    return tuple(_node(entries[key], answer) for key, answer in answers.items())


def _node(
    entry: Mapping[str, Any], answer: Answer, clock: Clock | None = None, is_open: bool | None = None
) -> Node:
    return Node(
        id=entry["NodeID"],
        address=entry["NodeManagerAddress"],
        gpus=entry["Resources"].get("GPU", 0.0),
        object_store=int(entry["Resources"].get("object_store_memory", 0)),
        machine=None if answer.error else Machine.of(answer.value),
        error=answer.error,
        clock=clock,
        is_open=is_open,
        accelerator=accelerator_type(entry),
    )


def ask_nodes(
    question: Callable[..., Any], words: Mapping[str, tuple[Any, ...]], seconds: float
) -> dict[str, Answer]:
    """What ``question(*words)`` answers on each node, all asked at once; ``words``: arguments by node id.

    ``question`` is of ``node_probe``, and is sent by value: a node may lack the module.
    """
    remote: Any = ray.remote(num_cpus=0, max_retries=0)(question)
    asked: dict[Any, tuple[str, float]] = {}
    with probes_by_value():
        for node, arguments in words.items():
            pinned = remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            moment = time.time()
            asked[pinned.remote(*arguments)] = (node, moment)
    answers = {}
    waiting = list(asked)
    end = time.monotonic() + seconds
    while waiting and (left := end - time.monotonic()) > 0:
        done, waiting = ray.wait(waiting, timeout=left)
        moment = time.time()
        for ref in done:
            node, before = asked[ref]
            value, error = _got(ref)
            answers[node] = Answer(value, error, before, moment)
    for ref in waiting:
        node, before = asked[ref]
        answers[node] = Answer(None, f"no answer in {seconds:g} s", before, time.time())
        ray.cancel(ref, force=True)
    return answers


@contextmanager
def probes_by_value() -> Iterator[None]:
    """In the context functions of ``node_probe`` are sent as they are: a node may lack the module."""
    ray.cloudpickle.register_pickle_by_value(node_probe)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(node_probe)  # type: ignore[no-untyped-call]


def clock_of(answers: Sequence[Answer]) -> Clock | None:
    """How far a clock is ahead, by the quickest of its answers; None where there is none."""
    known = [answer for answer in answers if answer.error is None]
    if not known:
        return None
    best = min(known, key=lambda answer: answer.answered - answer.asked)
    middle = (best.asked + best.answered) / 2
    return Clock(ahead=best.value - middle, error=(best.answered - best.asked) / 2)


def _got(ref: Any) -> tuple[Any, str | None]:
    try:
        return ray.get(ref), None
    except RayError as error:
        return None, _last_line(error)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _session_folder(entry: Mapping[str, Any]) -> str:
    """Where Ray keeps its files on a node, objects that it has no memory for among them."""
    return str(PurePosixPath(entry["RayletSocketName"]).parent.parent)


def _dashboard() -> str | None:
    from ray._private.services import get_webui_url_from_internal_kv

    url: str | None = get_webui_url_from_internal_kv()  # type: ignore[no-untyped-call]
    return url.rpartition("://")[2].rstrip("/") or None if url else None

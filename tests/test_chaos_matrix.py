"""The kill matrix: whoever ends at whatever moment, the same videos come out, and nothing else is left.

A slice of it is part of `make test`; all of it is `make chaos`.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from faulty_runs import ROWS, SETTINGS, Moment, Scene, ended_by_hand, undisturbed_hashes
from ray_cluster import SHARES, Cluster, cluster
from runs import finish, wait_until

from ltx_ray.ledger.control import Request, ask, standing
from ltx_ray.ledger.lease import read_lease
from ltx_ray.storage import Store

ACTORS = ("Conditioner", "Denoiser", "TileDecoder", "Assembler")
MOMENTS = ("before", "in", "after", "reported")
# Killed denoisers and drivers are met in test_render_cluster.py too.
QUICK = {("Coordinator", "after"), ("drained", "in")}
GRACE_SECONDS = 60


def cells(*who: str) -> list[object]:
    """(who, when) for pytest; those that are not quick are left to `make chaos`."""
    return [
        pytest.param(name, when, marks=() if (name, when) in QUICK else pytest.mark.chaos)
        for name in who
        for when in MOMENTS
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return undisturbed_hashes(tmp_path_factory.mktemp("undisturbed"), ROWS, SETTINGS)


@pytest.fixture
def scene(tmp_path: Path, undisturbed: dict[str, str]) -> Scene:
    return Scene(tmp_path, undisturbed, tmp_path / "fault.json")


@pytest.mark.parametrize(("who", "when"), cells(*ACTORS))
def test_an_actor_is_killed(scene: Scene, who: str, when: str) -> None:
    finish(scene.start(Moment(who, when)))
    scene.check()


@pytest.mark.parametrize(("who", "when"), cells("Coordinator"))
def test_the_coordinator_is_killed(scene: Scene, who: str, when: str) -> None:
    finish(scene.start(Moment(who, when, count=1 if when == "before" else 2)))
    scene.check()


@pytest.mark.parametrize(("who", "when"), cells("driver"))
def test_the_driver_is_killed_and_the_same_command_given_again(scene: Scene, who: str, when: str) -> None:
    moment = Moment("Coordinator", when, how="hold", count=1 if when == "before" else 2)
    run = scene.start(moment)
    scene.happened(run)
    ended_by_hand(run)
    finish(scene.start(moment))
    scene.check()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    fault = tmp_path_factory.mktemp("nodes") / "fault.json"
    with cluster(fault) as made:
        yield made


@pytest.fixture
def scattered(tmp_path: Path, undisturbed: dict[str, str], nodes: Cluster) -> Scene:
    """A scene on two nodes."""
    nodes.top_up(2)
    return Scene(tmp_path, undisturbed, nodes.fault)


def begun_on_nodes(scene: Scene, nodes: Cluster, when: str) -> "tuple[subprocess.Popen[str], str]":
    """A run that is held at a moment of a denoiser, and the node where that denoiser is."""
    moment = Moment("Denoiser", when, how="hold")
    run = scene.start(moment, "--address", nodes.address, "--set", SHARES, "--set", "pools.assemblers=1")
    return run, scene.happened(run)["node"]


@pytest.mark.parametrize(("who", "when"), cells("node"))
def test_a_node_is_gone(scattered: Scene, nodes: Cluster, who: str, when: str) -> None:
    run, node = begun_on_nodes(scattered, nodes, when)
    nodes.remove(node)
    scattered.let_go()
    finish(run)
    scattered.check(cluster=nodes.is_part)


@pytest.mark.parametrize(("who", "when"), cells("drained"))
def test_a_node_is_drained_and_handed_over_in_time(
    scattered: Scene, nodes: Cluster, who: str, when: str
) -> None:
    run, node = begun_on_nodes(scattered, nodes, when)
    nodes.drain(node, GRACE_SECONDS)
    scattered.let_go()
    # While the run goes on elsewhere, nothing of it stays where it soon would be lost.
    wait_until(lambda: not nodes.actors_on(node), run)
    finish(run)
    scattered.check(cluster=nodes.is_part)
    nodes.remove(node)


@pytest.mark.chaos
def test_a_paused_run_stays_paused_when_its_coordinator_is_killed(scene: Scene) -> None:
    run = scene.start(Moment("Coordinator", "reported", how="hold"))
    before = int(scene.happened(run)["pid"])
    out = str(scene.out)
    ask(Store(out), Request(verb="pause"))
    scene.let_go()
    wait_until(lambda: standing(Store(out)).paused, run)
    psutil.Process(before).kill()

    def is_replaced() -> bool:
        lease = read_lease(Store(out))
        return lease is not None and lease.pid != before and bool(lease.progress)

    wait_until(is_replaced, run)
    lease = read_lease(Store(out))
    assert lease is not None
    assert lease.progress is not None
    assert lease.progress["paused"]
    ask(Store(out), Request(verb="resume"))
    finish(run)
    scene.check()


def test_the_matrix_is_as_large_as_promised() -> None:
    assert len(cells(*ACTORS, "Coordinator", "driver", "node", "drained")) == 32

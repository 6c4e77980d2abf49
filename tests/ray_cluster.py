"""A Ray cluster of several nodes on this machine, for runs that lose some of them."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from faulty_runs import environment
from ray.cluster_utils import Cluster as RayCluster

from actors.registry import class_name
from ltx_ray.types import Stage

# Every stage's actor takes this much of a node, so that none fits beside the coordinator on the head.
SHARE = 2
SHARES = "pools.cpu_shares=" + str(
    dict.fromkeys(("condition", "denoise", "decode", "assemble", "finish"), SHARE)
).replace("'", '"').replace(": ", " = ")


LOOPBACK = "127.0.0.1"


class Cluster:
    """A head that only coordinates, and nodes that come and go."""

    def __init__(self, cluster: RayCluster, fault: Path, folder: Path) -> None:
        self._cluster = cluster
        self.discovery_file = folder / "prom_metrics_service_discovery.json"  # where there is a dashboard
        self.fault = fault  # says what happens to what runs here
        self.address = str(cluster.address)
        self._nodes: dict[str, Any] = {}

    def add(self, cpus: int = 8 * SHARE, gpus: int = 0, **more: Any) -> str:
        """A node, on which all actors of a run fit if nothing else is said; its id. ``more``: as of Ray."""
        node = self._cluster.add_node(num_cpus=cpus, num_gpus=gpus, node_ip_address=LOOPBACK, **more)
        self._nodes[node.node_id] = node
        return str(node.node_id)

    def top_up(self, count: int, cpus: int = 8 * SHARE) -> list[str]:
        """There are ``count`` nodes beside the head; their ids."""
        while len(self._nodes) < count:
            self.add(cpus)
        return list(self._nodes)

    def remove(self, node: str) -> None:
        """It is gone from one moment to the next, as a machine that loses its power."""
        self._cluster.remove_node(self._nodes.pop(node), allow_graceful=False)

    def drain(self, node: str, seconds: int) -> None:
        """As by a spot notice: in so many seconds it will be gone."""
        words = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", self.address]
        words += ["--node-id", node, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "a test"]
        words += ["--deadline-remaining-seconds", str(seconds)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def actors_on(self, node: str) -> dict[psutil.Process, str]:
        """The processes of a run's actors on a node, and what Ray calls them."""
        found = {}
        for raylet in self._nodes[node].all_processes["raylet"]:
            for child in psutil.Process(raylet.process.pid).children(recursive=True):
                try:
                    title = (child.cmdline() or [""])[0]
                except psutil.NoSuchProcess:
                    continue
                if is_actor(title):
                    found[child] = title
        return found

    def is_part(self, process: psutil.Process) -> bool:
        """Whether a process is of the cluster itself and not of a run."""
        try:
            title = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            return True
        return not is_actor(title)


def is_actor(title: str) -> bool:
    """Whether Ray calls an actor of a run so."""
    name = title.removeprefix("ray::").partition(".")[0].strip()
    return title.startswith("ray::") and name in ("Host", *map(class_name, Stage))


@contextmanager
def cluster(fault: Path, *, dashboard: bool = False) -> Iterator[Cluster]:
    """A cluster, to what runs on which may happen what ``fault`` says. With its ``dashboard`` the head tells
    Prometheus where Ray's own metrics are."""
    with (
        tempfile.TemporaryDirectory(prefix="ltx-", dir="/tmp") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {**environment(fault), "RAY_TMPDIR": folder}.items():
            patch.setenv(name, value)
        # Drivers would look for 127.0.0.1 at the machine's own address, where nothing is open.
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        made = RayCluster(
            initialize_head=True,
            head_node_args={
                **{"num_cpus": 1, "node_ip_address": LOOPBACK, "include_dashboard": dashboard},
                "dashboard_port": 0,
            },
        )
        try:
            yield Cluster(made, fault, Path(folder) / "ray")
        finally:
            made.shutdown()

"""A head whose real autoscaler starts and ends nodes: on this machine, where others start instances."""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FAKE_HEAD_NODE_TYPE,
    FakeMultiNodeProvider,
)
from ray_head import Head, ray_head

_LOOK_SECONDS = 0.25  # between two looks at the cluster
_PROVIDER = f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}"
# Of every process: autoscaler v2, which looks once a second, and nodes that it knows again by their ids.
_VARIABLES = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}
# That a node is set up and started by, where it is another machine.
_SETTING_UP = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"),
    *("rsync_exclude", "rsync_filter"),
)


@dataclass
class Farm:
    """Nodes come and go beside its head, which has no CPU and no GPU."""

    head: Head
    curve: list[tuple[float, int]] = field(default_factory=list)  # (seconds since the first look, nodes)
    _began: float = field(default_factory=time.monotonic)

    def nodes(self) -> list[dict[str, Any]]:
        """All that there ever were beside the head, as the head's API tells them."""
        url = f"{self.head.address}/api/v0/nodes?limit=100&detail=true"
        token = self.head.token.read_text().strip()
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            told = json.load(answer)
        found: list[dict[str, Any]] = told["data"]["result"]["result"]
        return [node for node in found if not node["is_head_node"]]

    def look(self) -> int:
        """How many live now; remembers when that changed."""
        alive = sum(node["state"] == "ALIVE" for node in self.nodes())
        if not self.curve or self.curve[-1][1] != alive:
            self.curve.append((time.monotonic() - self._began, alive))
        return alive

    def watch_until(self, reached: Callable[[int], bool], patience: float) -> None:
        """Look on until as many nodes live as are waited for."""
        end = time.monotonic() + patience
        while not reached(self.look()):
            assert self.head.process.poll() is None, self.log()
            assert time.monotonic() < end, f"not reached within {patience} s: {self.curve}\n{self.log()}"
            time.sleep(_LOOK_SECONDS)

    def log(self) -> str:
        """What the autoscaler said last."""
        logs = [*self.head.folder.glob("ray/session_2*/logs/monitor.*"), self.head.folder / "log"]
        return "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)


@contextmanager
def autoscaled_head(repository: Path, *, most: int, cpus: int, idle_seconds: float) -> Iterator[Farm]:
    """A head alone; up to ``most`` nodes of a GPU and so many CPUs come for what finds no place, and go when
    they have been idle for ``idle_seconds``."""
    kinds = {
        FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "gpu": {"resources": {"CPU": cpus, "GPU": 1}, "node_config": {}, "max_workers": most},
    }
    provider = {
        "type": "external",
        "module": _PROVIDER,
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": FAKE_HEAD_NODE_ID,
    }
    config = {
        "cluster_name": "farm",
        "max_workers": most,
        "upscaling_speed": most,
        "idle_timeout_minutes": idle_seconds / 60,
        "available_node_types": kinds,
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        **{key: [] for key in _SETTING_UP},
        **{key: {} for key in ("docker", "file_mounts", "auth")},
    }

    def text(gcs: str) -> str:
        return yaml.safe_dump({**config, "provider": {**provider, "gcs_address": gcs}})

    with ray_head(repository, cpus=0, autoscaling=text, variables=_VARIABLES) as head:
        yield Farm(head)

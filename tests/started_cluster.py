"""A Ray on this machine that is started by the commands of ray_cluster.yaml."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from runs import PATIENCE
from templates import RAY_CLUSTER, ROOT, documents

# Reached from this machine alone, as 127.0.0.1, which Ray, where it joins others, takes for something else.
LOOPBACK = "127.0.0.2"
HEAD = "node:__internal_head__"
PORTS = ("--port", "--object-manager-port", "--dashboard-port", "--metrics-export-port")


@dataclass(frozen=True)
class Started:
    """Its head and one spot worker."""

    ports: dict[str, int]  # of the head, by the option of `ray start`
    environment: dict[str, str]  # that lets in

    @property
    def address(self) -> str:
        """Of its head."""
        return f"{LOOPBACK}:{self.ports['--port']}"

    def python(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run Python with the token."""
        return _run([sys.executable, "-P", *words], self.environment)

    def nodes(self) -> list[dict[str, Any]]:
        """As Ray tells them, the head first."""
        connect = f"ray.init({self.address!r}, _node_ip_address={LOOPBACK!r}, log_to_driver=False)"
        done = self.python("-c", f"import json, ray\n{connect}\nprint(json.dumps(ray.nodes()))")
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return sorted(found, key=lambda node: HEAD not in node["Resources"])


@contextmanager
def started_cluster() -> Iterator[Started]:
    """It runs as long as the context."""
    (config,) = documents(RAY_CLUSTER)
    kinds = config["available_node_types"]
    folder = Path(tempfile.mkdtemp(prefix="ltx-", dir="/tmp"))
    (folder / "ray_token").write_text("the-token-of-this-test\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "ray_token")}
    environment |= {"RAY_TMPDIR": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    head = {name: _free_port() for name in PORTS}
    worker = {**head, "--object-manager-port": _free_port(), "--metrics-export-port": _free_port()}
    extra = [f"--ray-client-server-port={_free_port()}"]
    try:
        _start([*_here(config["head_start_ray_commands"][-1], head), *extra], kinds["head"], environment)
        _start(_here(config["worker_start_ray_commands"][1], worker), kinds["gpu-spot"], environment)
        yield Started(head, environment)
    finally:
        _end(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _here(command: str, ports: dict[str, int]) -> list[str]:
    """The `ray start` of a command of the template, with free ports, and addresses of this machine."""
    words = shlex.split(command.partition("; ")[2])
    assert words[:2] == ["ray", "start"]
    kept = []
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name == "--autoscaling-config":  # there is no cloud to start nodes in
            continue
        if name == "--address":
            value = f"{LOOPBACK}:{ports['--port']}"
        if name == "--dashboard-host":
            value = LOOPBACK if value == "127.0.0.1" else value
        value = str(ports.get(name, value))
        kept.append(f"{name}={value}" if value else name)
    return [*kept, f"--node-ip-address={LOOPBACK}"]


def _start(options: list[str], kind: dict[str, Any], environment: dict[str, str]) -> None:
    """As the autoscaler starts a node: it tells it what it is."""
    told = {"RAY_OVERRIDE_RESOURCES": json.dumps(kind["resources"])}
    told["RAY_OVERRIDE_LABELS"] = json.dumps(kind.get("labels", {}))
    done = _run([sys.executable, "-m", "ray.scripts.scripts", *options], {**environment, **told})
    assert done.returncode == 0, done.stdout + done.stderr


def _run(words: list[str], environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    # Into files: what Ray starts inherits them, and would keep a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(words, env=environment, stdout=out, stderr=err, timeout=PATIENCE, check=False)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, done.returncode, out.read(), err.read())


def _end(folder: Path) -> None:
    """What was started names the folder."""
    found = [
        each
        for each in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(each.info["cmdline"] or ())
    ]
    for process in found:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(found, PATIENCE)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])

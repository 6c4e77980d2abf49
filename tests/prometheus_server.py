"""A real Prometheus on this machine, and promtool, as tests ask them."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "cluster" / "prometheus"
_PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus", path=_PATH) and shutil.which("promtool", path=_PATH)),
    reason="Debian's prometheus is not here: tests/install_tools.sh VENV fetches it, as `make test` does",
)


def promtool(*words: str, data: bytes = b"", folder: Path = CONFIGS) -> str:
    """What promtool prints; it must find nothing wrong."""
    program = shutil.which("promtool", path=_PATH)
    assert program
    done = subprocess.run([program, *words], input=data, cwd=folder, capture_output=True, check=False)
    told = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, told
    return told


class Prometheus:
    """A server that answers."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url, self._process = url, process

    def get(self, name: str, **parameters: str) -> Any:
        """The data of ``/api/v1/<name>``."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{name}?{query}", timeout=30) as answer:
            found = json.load(answer)
        assert found["status"] == "success"
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query; a number alone is one without labels."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        series: list[dict[str, Any]] = data["result"]
        return series

    def has_numbers(self, expression: str) -> bool:
        """Whether a query returns anything but NaN."""
        return any(not math.isnan(float(each["value"][1])) for each in self.query(expression))

    def wait_until(self, state: Callable[[], Any]) -> Any:
        """What ``state`` answers as soon as that is true; the server must live until then."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if found := state():
                return found
            assert self._process.poll() is None, "Prometheus has ended"
            time.sleep(0.1)
        raise AssertionError(f"the state did not come within {PATIENCE} s")


@contextmanager
def prometheus(folder: Path, targets: dict[str, str]) -> Iterator[Prometheus]:
    """A server with our configuration in a hurry: everything each second, and alerts after one.

    ``targets``: for each scrape job the glob of its discovery files.
    """
    config = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        job["file_sd_configs"] = [{"files": [targets[job["job_name"]]], "refresh_interval": "1s"}]
    for name in config["rule_files"]:
        rules = yaml.safe_load((CONFIGS / name).read_text())
        for rule in (rule for group in rules["groups"] for rule in group["rules"] if "for" in rule):
            rule["for"] = "1s"
        (folder / name).write_text(yaml.safe_dump(rules))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    program = shutil.which("prometheus", path=_PATH)
    assert program
    words = [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*words, f"--web.listen-address={address}"], cwd=folder, stderr=log)
    server = Prometheus(f"http://{address}", process)
    try:
        server.wait_until(lambda: _is_ready(server.url))
        yield server
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False

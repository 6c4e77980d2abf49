"""A Ray started as ray_cluster.yaml says: closed, no work on its head, drained when AWS gives notice."""

import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ray.core.generated.common_pb2 import NodeDeathInfo
from runs import PATIENCE, start, wait_until
from started_cluster import LOOPBACK, Started, started_cluster

from cluster.spot_notice import notice


class Metadata(BaseHTTPRequestHandler):
    """AWS' metadata service, by its second protocol: no answer without a token."""

    taken_away: datetime | None = None
    asked = 0

    def do_PUT(self) -> None:
        seconds = self.headers["X-aws-ec2-metadata-token-ttl-seconds"]
        self._answer(200 if self.path == "/latest/api/token" and seconds else 400, "a-token")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "a-token":
            self._answer(401)
        elif self.path != "/latest/meta-data/spot/instance-action" or self.taken_away is None:
            self._answer(404)
        else:
            time = self.taken_away.strftime("%Y-%m-%dT%H:%M:%SZ")
            self._answer(200, json.dumps({"action": "terminate", "time": time}))
        type(self).asked += 1

    def _answer(self, code: int, text: str = "") -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def metadata() -> Iterator[tuple[str, type[Metadata]]]:
    """Its address, and where to tell it."""
    told = type("Told", (Metadata,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), told) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", told
        server.shutdown()


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    with started_cluster() as found:
        yield found


def test_a_notice_is_understood(metadata: tuple[str, type[Metadata]]) -> None:
    address, service = metadata
    assert notice(address) is None
    service.taken_away = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
    assert notice(address) == service.taken_away
    with pytest.raises(OSError, match="refused"):
        notice("http://127.0.0.1:1")


def test_the_head_has_no_cpus_and_the_worker_its_labels(started: Started) -> None:
    head, worker = started.nodes()
    assert head["Resources"].keys().isdisjoint({"CPU", "GPU"})
    assert (worker["Resources"]["CPU"], worker["Resources"]["GPU"]) == (16, 1)
    assert worker["Labels"]["ray.io/market-type"] == "spot"
    assert worker["Labels"]["ray.io/accelerator-type"] == "L40S"


def test_doctor_finds_it_closed(started: Started) -> None:
    done = started.python("-m", "jobs.cli", "doctor", "--address", started.address, "--json")
    found = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    for check in ("access to Ray", "dashboard"):
        assert found[check]["state"] == "ok", found[check]
    assert f"{LOOPBACK}:{started.ports['--dashboard-port']}" in found["dashboard"]["found"]


def test_prometheus_gets_rays_metrics_where_the_template_says(started: Started) -> None:
    with urllib.request.urlopen(f"http://{LOOPBACK}:{started.ports['--metrics-export-port']}") as answer:
        assert "ray_" in answer.read().decode()


def test_a_node_that_aws_takes_away_is_drained(
    started: Started, metadata: tuple[str, type[Metadata]]
) -> None:
    """It comes last: the worker is idle, and Ray ends an idle node as soon as it is drained."""
    address, service = metadata
    worker = started.nodes()[1]
    assert worker["Alive"]
    words = [sys.executable, "-P", "-m", "cluster.spot_notice", "--metadata", address]
    words += ["--address", started.address, "--node-id", worker["NodeID"]]
    watch = start(words, started.environment)
    wait_until(lambda: service.asked >= 1, watch)
    service.taken_away = datetime.now(UTC) + timedelta(seconds=110)
    _, said = watch.communicate(timeout=PATIENCE)
    assert watch.returncode == 0, said
    assert "AWS takes this instance away" in said
    while (gone := started.nodes()[1])["Alive"]:
        assert datetime.now(UTC) < service.taken_away, "the node was not drained"
    assert gone["DeathReason"] == NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED

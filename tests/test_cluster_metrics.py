"""The metrics as they are served, the file that names them to Prometheus, and the page that lists them."""

import json
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from test_repository import table

from cluster.exposition import Endpoint, TargetsFile, own_address, run_name
from cluster.metrics import Metrics
from ltx_ray.config import MetricsConfig, RenderConfig
from ltx_ray.errors import ConfigError

_ENDINGS = {"counter": "_total", "info": "_info"}


def every_series() -> dict[str, set[str]]:
    """Names of all metrics, as they are queried, and the names of their labels."""
    metrics = Metrics("out", "0000", {"output": "o", "model": "m", "config_hash": "h", "device": "d"})
    metrics.seconds["denoise", "cpu"].observe(1)
    metrics.failures["denoise", "internal", "node"].inc()
    metrics.quarantined["node"].set(1)
    metrics.peak["denoise", "cpu", "node"].set(1)
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        name = family.name + _ENDINGS.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = labels - {"run", "shard", "le"}
    return found


def test_the_page_lists_every_metric_and_its_labels() -> None:
    listed = {
        name: cells[0] for name, cells in table("docs/metrics.md").items() if name.startswith("ltx_ray")
    }
    assert listed == {name: ", ".join(sorted(labels)) for name, labels in every_series().items()}


def test_what_is_known_ahead_begins_at_zero() -> None:
    text = Metrics("out", "0000", {}).text().decode()
    assert 'ltx_ray_shots_total{outcome="failed",run="out",shard="0000"} 0.0' in text
    assert 'kind="worker_lost",run="out",shard="0000",stage="denoise"} 0.0' in text
    assert "_created" not in text


def test_a_look_of_ours_is_no_scrape() -> None:
    metrics = Metrics("out", "0000", {})
    metrics.text()
    assert metrics.scraped_at is None
    assert list(metrics.registry.collect())
    assert metrics.scraped_at is not None


def test_nothing_is_in_the_registry_of_the_process() -> None:
    Metrics("out", "0000", {})
    assert not [family for family in REGISTRY.collect() if family.name.startswith("ltx_ray")]


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


@pytest.mark.parametrize("bind", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_an_endpoint_answers_at_its_address_until_it_is_closed(bind: str) -> None:
    endpoint = Endpoint(Metrics("out", "0000", {}).registry, bind, 0)
    with urllib.request.urlopen(f"http://{endpoint.address}/metrics", timeout=10) as answer:
        assert b"ltx_ray_running" in answer.read()
    endpoint.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{endpoint.address}/metrics", timeout=10)


def test_a_port_that_is_taken_is_left_for_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = Endpoint(CollectorRegistry(), "127.0.0.1", taken.getsockname()[1])
        assert endpoint.is_moved
        endpoint.close()


def test_an_endpoint_for_all_is_named_by_an_address_of_this_machine() -> None:
    endpoint = Endpoint(CollectorRegistry(), "0.0.0.0", 0)
    assert endpoint.address.rpartition(":")[0] == own_address() != "0.0.0.0"
    endpoint.close()


def test_a_targets_file_says_where_and_whose_and_goes(tmp_path: Path) -> None:
    file = TargetsFile(str(tmp_path / "sd"), "night shift", "0000", "/somewhere/out")
    file.write("10.1.2.3:9480")
    (path,) = (tmp_path / "sd").glob("ltx-ray-*.json")
    assert json.loads(path.read_text()) == [
        {"targets": ["10.1.2.3:9480"], "labels": {"job": "ltx-ray", "run": "night shift", "shard": "0000"}}
    ]
    other = TargetsFile(str(tmp_path / "sd"), "night shift", "0000", "/elsewhere/out")
    other.write("10.1.2.3:9481")
    assert len(list((tmp_path / "sd").iterdir())) == 2, "runs of one name do not take each other's file"
    file.remove()
    file.remove()
    assert len(list((tmp_path / "sd").iterdir())) == 1


def test_a_run_is_named_after_its_output_unless_the_config_says_otherwise() -> None:
    assert run_name(MetricsConfig(), "/data/renders/may") == "may"
    assert run_name(MetricsConfig(), "s3://bucket/renders/may/") == "may"
    assert run_name(MetricsConfig(), "s3://bucket/may?token=secret") == "may"
    assert run_name(MetricsConfig(run_name="june"), "/data/renders/may") == "june"


def test_a_discovery_file_without_a_port_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"metrics: discovery names a port .* got discovery /sd and no port"
    ):
        RenderConfig.load(None, ("metrics.discovery=/sd",))


def test_metrics_do_not_decide_the_bytes() -> None:
    told = RenderConfig.load(None, ("metrics.port=9480", "metrics.price_per_gpu_hour=3.5"))
    assert told.content() == RenderConfig().content()

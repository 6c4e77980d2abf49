"""A real Prometheus watches a real run on a real cluster: what dashboard and alerts ask for is there."""

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import promql_parser
import psutil
import pytest
import yaml
from prometheus_server import CONFIGS, ROOT, Prometheus, needs_prometheus, prometheus, promtool
from ray_cluster import SHARES, Cluster, cluster
from runs import QUICK, command, start, wait_until, write_manifest
from test_metrics_rules import ALERTS, DASHBOARD

pytestmark = needs_prometheus
# Their numbers come from a GPU's driver. docs/metrics.md names them too.
UNPROVEN = ("Peak memory of GPUs", "GPUs (Ray)")
RUN = "proof"
ROWS = [
    {
        "id": f"shot-{number:04d}",
        "prompt": f"a red circle {number}",
        "width": 64,
        "height": 64,
        "num_frames": 40,
    }
    for number in range(400)
] + [{"id": "wrong", "prompt": "too small", "width": 2, "height": 2}]
WINDOWS = {"$run": RUN, "$shard": ".*", "$__rate_interval": "30s", "$__range": "5m"}
SETTINGS = (
    *QUICK,
    SHARES,
    "pools.gpu_shares={denoise = 0.5, decode = 0.25}",  # of GPUs that only Ray's books have
    "device.kind=cpu",
    f"metrics.run_name={RUN}",
    "metrics.port=0",
    "metrics.price_per_gpu_hour=3.5",
)


@dataclass(frozen=True, slots=True)
class Watched:
    """A run, and who watches it."""

    server: Prometheus
    run: "subprocess.Popen[str]"
    cluster: Cluster
    node: str  # the one on which it works


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A run that goes on for long, on a node with two GPUs by Ray's books, beside one without work."""
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as stack:
        ray = stack.enter_context(cluster(folder / "fault", dashboard=True))
        node, spare = ray.add(gpus=2), ray.add(cpus=1)
        targets = {"ltx-ray": f"{folder}/targets/ltx-ray-*.json", "ray": str(ray.discovery_file)}
        server = stack.enter_context(prometheus(folder, targets))
        manifest = write_manifest(folder / "shots.jsonl", ROWS)
        options = ("--address", ray.address, "--denoisers", "1", "--decoders", "1")
        settings = (*SETTINGS, f"metrics.discovery={folder}/targets")
        run = start(command(manifest, folder / "out", *options, settings=settings))
        stack.callback(ended, run)
        done = f'sum(ltx_ray_shots_total{{run="{RUN}", outcome="done"}}) >= 2'
        wait_until(lambda: server.query(done), run)
        titles = {title for each in (node, spare) for title in ray.actors_on(each).values()}
        assert not any(title.startswith("ray::Host") for title in titles), "it lives beside the driver"
        ray.remove(spare)
        yield Watched(server, run, ray, node)


def ended(run: "subprocess.Popen[str]") -> None:
    run.kill()
    run.communicate()


def queries() -> list[tuple[str, str]]:
    """(title, query) of all panels, as Grafana would ask for the one run."""
    found = []
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name in sorted(WINDOWS, key=len, reverse=True):
                expression = expression.replace(name, WINDOWS[name])
            found.append((panel["title"], expression))
    return found


def operands(expression: str) -> Iterator[str]:
    """What a rule compares and combines, down to where numbers are computed."""
    node = promql_parser.parse(expression)
    while isinstance(node, promql_parser.ParenExpr):
        node = node.expr
    if isinstance(node, promql_parser.BinaryExpr) and str(node.op) in (
        *("and", "or", "unless", "==", "!=", ">", "<", ">=", "<="),
    ):
        yield from operands(str(node.lhs))
        yield from operands(str(node.rhs))
    elif not isinstance(node, promql_parser.NumberLiteral):
        yield str(node)


def test_every_query_of_the_dashboard_returns_numbers(watched: Watched) -> None:
    def at_work() -> psutil.Process | None:
        found = watched.cluster.actors_on(watched.node).items()
        return next((each for each, title in found if title.startswith("ray::Denoiser.run")), None)

    wait_until(at_work, watched.run).kill()  # so that there are failures to be shown
    open_queries = {query: title for title, query in queries() if title not in UNPROVEN}
    assert len(open_queries) > 40

    def all_answered() -> bool:
        for query in [query for query in open_queries if watched.server.has_numbers(query)]:
            del open_queries[query]
        return not open_queries

    try:
        wait_until(all_answered, watched.run)
    finally:
        assert open_queries == {}


def test_every_operand_of_every_alert_and_every_recorded_series_is_there(watched: Watched) -> None:
    recorded = [
        rule["record"]
        for group in yaml.safe_load((CONFIGS / "recording.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    wanted = {*recorded, *(each for rule in ALERTS.values() for each in operands(rule["expr"]))}
    assert any(each.startswith("last_over_time") for each in wanted), "operands are taken apart"
    missing = set(wanted)

    def all_there() -> bool:
        missing.difference_update([each for each in missing if watched.server.query(each)])
        return not missing

    try:
        wait_until(all_there, watched.run)
    finally:
        assert missing == set()


def test_what_is_served_is_well_formed_and_names_no_shot(watched: Watched) -> None:
    targets = watched.server.get("targets")["activeTargets"]
    assert {target["health"] for target in targets if target["labels"]["job"] == "ltx-ray"} == {"up"}
    (url,) = [target["scrapeUrl"] for target in targets if target["labels"]["job"] == "ltx-ray"]
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read()
    promtool("check", "metrics", data=text)
    assert b"shot-00" not in text
    assert not re.search(rb"^(?!ltx_ray_|#).", text, re.MULTILINE), "all of it is ours"


def test_a_lost_node_is_counted(watched: Watched) -> None:
    lost = f'ltx_ray_nodes_gone_total{{run="{RUN}", reason="lost"}} == 1'
    assert wait_until(lambda: watched.server.query(lost), watched.run)


def test_a_run_that_is_killed_raises_the_alarm(watched: Watched) -> None:
    watched.run.kill()

    def firing() -> list[str]:
        alerts = watched.server.get("alerts")["alerts"]
        return [
            alert["annotations"]["summary"]
            for alert in alerts
            if alert["state"] == "firing" and alert["labels"]["alertname"] == "LtxRayCoordinatorGone"
        ]

    (told,) = watched.server.wait_until(firing)
    assert told.startswith(f"the coordinator of {RUN} does not answer at 127.0.0.1:")


def test_the_page_says_what_is_unproven() -> None:
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    section = text.partition("## What is proven")[2]
    assert all(f"*{title}*" in section for title in UNPROVEN)

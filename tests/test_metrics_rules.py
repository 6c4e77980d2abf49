"""Scrape config, rules and dashboard as files: right by promtool's word, and complete."""

import json
from typing import Any

import pytest
import yaml
from prometheus_server import CONFIGS, ROOT, needs_prometheus, promtool
from test_repository import table

from cluster.grafana import make_dashboard

GRAFANA = ROOT / "cluster" / "grafana"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((CONFIGS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "ltx_ray.json").read_text())


@needs_prometheus
def test_promtool_finds_nothing_wrong() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "recording.yml", "alerts.yml")


@needs_prometheus
def test_every_alert_fires_where_it_should_and_not_where_it_should_not() -> None:
    promtool("test", "rules", "alerts_test.yml")
    cases = [
        case
        for test in yaml.safe_load((CONFIGS / "alerts_test.yml").read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "runbook"}
    assert "$labels.run" in rule["annotations"]["summary"], "whoever is woken knows which run it is"
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    quoted = rule["annotations"]["runbook"].split('"')[1::2]
    assert [each for each in quoted if each not in titles] == [], "panels that the runbook sends people to"


def test_the_page_lists_every_alert_and_how_bad_it_is() -> None:
    listed = {name: cells[0] for name, cells in table("docs/metrics.md").items() if name.startswith("LtxRay")}
    assert listed == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}


def test_the_dashboard_is_made_of_its_description() -> None:
    assert make_dashboard.text() == (GRAFANA / "dashboards" / "ltx_ray.json").read_text()


def test_the_dashboard_is_one_that_grafana_can_show() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "run", "shard"]
    for name in ("datasources", "dashboards"):
        found = yaml.safe_load((GRAFANA / "provisioning" / name / "ltx_ray.yml").read_text())
        assert found["apiVersion"] == 1

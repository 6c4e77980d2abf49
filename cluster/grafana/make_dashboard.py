"""Write dashboards/ltx_ray.json, which Grafana reads, from panels.py and panels_of_machines.py:

python -m cluster.grafana.make_dashboard
"""

import json
from pathlib import Path
from typing import Any

from cluster.grafana.panels import CHUNKS, OVERVIEW, STAGES, Panel
from cluster.grafana.panels_of_machines import CLUSTER, COST, FAILURES, MEMORY

TARGET = Path(__file__).parent / "dashboards" / "ltx_ray.json"
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "gray"
COLOURS = {
    "{{outcome}}": {"done": GREEN, "retried": ORANGE, "rejected": ORANGE, "failed": RED, "cancelled": GREY},
    "{{state}}": {
        **{"busy": GREEN, "idle": GREY, "launching": BLUE, "unplaced": ORANGE},
        **{"ready": GREEN, "draining": ORANGE, "quarantined": RED},
    },
    # Stages have colours that say nothing of how well they are.
    "{{stage}}": {
        **{"condition": "#8250df", "denoise": "#1f6feb", "decode": "#0e9aa7"},
        **{"assemble": "#b7791f", "finish": "#6e7781"},
    },
    "limit": {"limit": RED},
}
ROWS = {
    "Overview": OVERVIEW,
    "Stages": STAGES,
    "Chunks and their order": CHUNKS,
    "Memory": MEMORY,
    "Failures": FAILURES,
    "Cluster": CLUSTER,
    "Cost": COST,
}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """The whole of it, in Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": _place(0, top, 24, 1),
            }
        )
        left, top, height = 0, top + 1, 0
        for panel in row:
            if left + panel.width > 24:
                left, top, height = 0, top + height, 0
            panels.append(_panel(panel) | {"gridPos": _place(left, top, panel.width, panel.height)})
            left, height = left + panel.width, max(height, panel.height)
        top += height
    for number, made in enumerate(panels, 1):
        made["id"] = number
    return {
        "uid": "ltx-ray",
        "title": "ltx-ray",
        "description": "Runs of ltx-ray: made by cluster/grafana/make_dashboard.py.",
        "tags": ["ltx-ray"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # the crosshair is in all panels at once
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_alerts()]},
        "templating": {"list": [_sources(), _variable("run", ""), _variable("shard", 'run=~"$run"')]},
        "links": [],
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    is_table = panel.kind == "table"
    targets = [
        {
            "refId": "ABCDEFGH"[number],
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend or "__auto",
            "format": "table" if is_table else "time_series",
            "instant": panel.kind != "timeseries",
            "range": panel.kind == "timeseries",
        }
        for number, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
        **(
            {"transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]}
            if is_table
            else {}
        ),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": GREEN, "value": None}]
    steps += [{"color": c, "value": v} for c, v in zip((ORANGE, RED), panel.limits, strict=False)]
    found: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.most is not None:
        found["max"] = panel.most
    if panel.kind == "timeseries":
        found["color"] = {"mode": "palette-classic"}
        found["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 40 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    else:
        found["color"] = {"mode": "thresholds"}
    if panel.words:
        words = {str(value): {"text": word, "index": value} for value, word in enumerate(panel.words)}
        found["mappings"] = [{"type": "value", "options": words}]
    return found


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    """Colours that mean something are the same everywhere."""
    legends = [legend for _, legend in panel.queries]
    colours = [each for legend, found in COLOURS.items() if legend in legends for each in found.items()]
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in colours
    ]


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm"}
    if panel.kind == "stat":
        last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": last, "colorMode": "value", "graphMode": "none", "textMode": "auto"}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _alerts() -> dict[str, Any]:
    return {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": RED,
        "expr": 'ALERTS{alertname=~"LtxRay.*", alertstate="firing", run=~"$run"}',
        "titleFormat": "{{alertname}}",
        "textFormat": "{{run}} {{stage}}",
        "step": "60s",
    }


def _sources() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
    }


def _variable(name: str, chosen: str) -> dict[str, Any]:
    series = f"ltx_ray_running{{{chosen}}}" if chosen else "ltx_ray_running"
    query = f"label_values({series}, {name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def main() -> None:
    TARGET.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()

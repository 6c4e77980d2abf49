"""Draw the dashboard's panels from a Prometheus, as one picture: docs/images/metrics.png, or where you say.

python docs/make_pictures/metrics.py http://127.0.0.1:9090 [--minutes 15] [--rows Overview Stages]

It asks what cluster/grafana/dashboards/ltx_ray.json asks, and lays the panels out as they lie there: whoever
has no Grafana at hand sees what a person on call would.
"""

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.dates
import matplotlib.ticker

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "cluster" / "grafana" / "dashboards" / "ltx_ray.json"
TARGET = ROOT / "docs" / "images" / "metrics.png"
COLUMNS, WIDTH, UNIT, DPI = 24, 22.0, 0.34, 64  # grid columns; inches of the width and of a grid row
POINTS = 240  # of a line
INK, FAINT, NOTHING = "#24292f", "#8c959f", "no data"
NAMED = {"green": "#2da44e", "orange": "#e08c1f", "red": "#cf222e", "blue": "#1f6feb", "gray": "#afb8c1"}


class Source:
    """A Prometheus, and the time range and the runs that are asked for."""

    def __init__(self, url: str, minutes: float, ago: float, run: str) -> None:
        self._url, self._run = url.rstrip("/"), run
        self._seconds, self.end = 60 * minutes, time.time() - 60 * ago
        self._step = max(self._seconds / POINTS, 1.0)

    @property
    def span(self) -> tuple[float, float]:
        """From when to when, in seconds since 1970."""
        return self.end - self._seconds, self.end

    def lines(self, expression: str) -> list[dict[str, Any]]:
        """Each series with its ``values``."""
        start, end = self.span
        return self._get("query_range", expression, start=start, end=end, step=self._step)

    def now(self, expression: str) -> list[dict[str, Any]]:
        """Each series with its last ``value``."""
        return self._get("query", expression, time=self.end)

    def _get(self, what: str, expression: str, **times: float) -> list[dict[str, Any]]:
        window = f"{max(4 * self._step, 30):.0f}s"
        for name, value in (
            ("$__rate_interval", window),
            ("$__range", f"{self._seconds:.0f}s"),
            ("$run", self._run),
            ("$shard", ".*"),
        ):
            expression = expression.replace(name, value)
        query = urllib.parse.urlencode({"query": expression, **times})
        with urllib.request.urlopen(f"{self._url}/api/v1/{what}?{query}", timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


def spoken(value: float, unit: str) -> str:
    """``value`` as a person reads it."""
    if math.isnan(value):
        return NOTHING
    if unit == "percentunit":
        return f"{100 * value:.0f}%"
    if unit == "bytes":
        power = min(int(math.log(max(value, 1), 1024)), 4)
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    if unit in ("s", "dtdurations"):
        if value >= 100:
            hours, rest = divmod(round(value), 3600)
            return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{1000 * value:.3g} ms"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def worded(value: float, defaults: dict[str, Any]) -> str:
    """``value`` as the panel has it: a word for some, else a number."""
    words = {
        key: each["text"] for known in defaults.get("mappings", []) for key, each in known["options"].items()
    }
    return words.get(f"{value:g}") or spoken(value, defaults["unit"])


def legend_of(target: dict[str, Any], labels: dict[str, str]) -> str:
    """What Grafana would call the series."""
    text = str(target["legendFormat"])
    if text == "__auto":
        return " ".join(value for name, value in sorted(labels.items()) if name != "__name__")
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def colours_of(panel: dict[str, Any]) -> dict[str, str]:
    """Colours that the dashboard gives to names."""
    return {
        each["matcher"]["options"]: NAMED.get(colour, colour)
        for each in panel["fieldConfig"]["overrides"]
        for colour in [each["properties"][0]["value"]["fixedColor"]]
    }


def draw_lines(axes: Any, panel: dict[str, Any], source: Source) -> None:
    found = {
        legend_of(target, series["metric"]): series["values"]
        for target in panel["targets"]
        for series in source.lines(target["expr"])
    }
    defaults, colours = panel["fieldConfig"]["defaults"], colours_of(panel)
    if not any(not math.isnan(float(value)) for values in found.values() for _, value in values):
        return say_nothing(axes)
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    base: dict[float, float] = {}
    for number, (name, values) in enumerate(found.items()):
        moments = [matplotlib.dates.date2num(datetime.fromtimestamp(moment)) for moment, _ in values]
        heights = [float(value) for _, value in values]
        colour = colours.get(name, f"C{number % 10}")
        last = next((height for height in reversed(heights) if not math.isnan(height)), math.nan)
        label = f"{name}  {spoken(last, defaults['unit'])}"
        if stacked:
            lower = [base.get(moment, 0.0) for moment, _ in values]
            heights = [a + b for a, b in zip(lower, heights, strict=True)]
            base |= {moment: height for (moment, _), height in zip(values, heights, strict=True)}
            axes.fill_between(moments, lower, heights, color=colour, alpha=0.75, label=label, linewidth=0)
        else:
            axes.plot(moments, heights, color=colour, linewidth=1.4, label=label)
    axes.set_xlim(*(matplotlib.dates.date2num(datetime.fromtimestamp(each)) for each in source.span))
    axes.set_ylim(0, 1.02 * defaults["max"] if "max" in defaults else None)
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda value, _: spoken(value, defaults["unit"]))
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(minticks=2, maxticks=8))
    axes.grid(color="#e6e8eb", linewidth=0.6)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=7.5, frameon=False)


def draw_stat(axes: Any, panel: dict[str, Any], source: Source) -> None:
    defaults, told = panel["fieldConfig"]["defaults"], []
    for target in panel["targets"]:
        for series in source.now(target["expr"]):
            value = float(series["value"][1])
            text = worded(value, defaults)
            colour = next(
                NAMED[step["color"]]
                for step in reversed(defaults["thresholds"]["steps"])
                if step["value"] is None or value >= step["value"]
            )
            name = legend_of(target, series["metric"])
            told.append((f"{name}: {text}" if name else text, colour))
    for number, (text, colour) in enumerate(told or [(NOTHING, FAINT)]):
        height = 0.5 + 0.32 * ((len(told) - 1) / 2 - number)
        size = 22 if len(text) < 12 else 16
        axes.text(0.5, height, text, ha="center", va="center", fontsize=size, color=colour, weight="bold")


def draw_table(axes: Any, panel: dict[str, Any], source: Source) -> None:
    (target,) = panel["targets"]
    found = sorted(source.now(target["expr"]), key=lambda series: -float(series["value"][1]))
    for number, series in enumerate(found[:8]):
        height = 0.92 - 0.115 * number
        text = "   ".join(f"{name}: {value}" for name, value in sorted(series["metric"].items()))
        value = worded(float(series["value"][1]), panel["fieldConfig"]["defaults"])
        axes.text(0.02, height, text, fontsize=9, va="top")
        axes.text(0.98, height, value, fontsize=9, va="top", ha="right")
    if not found:
        say_nothing(axes)


def say_nothing(axes: Any) -> None:
    axes.text(0.5, 0.5, NOTHING, ha="center", va="center", color=FAINT, transform=axes.transAxes)


DRAW: dict[str, Callable[[Any, dict[str, Any], Source], None]] = {
    "timeseries": draw_lines,
    "stat": draw_stat,
    "table": draw_table,
}


def chosen(rows: list[str]) -> list[dict[str, Any]]:
    """The panels of these rows, moved up to where the picture begins; of all, where none is named."""
    found: list[dict[str, Any]] = []
    is_wanted, shift, bottom = False, 0, 0
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            is_wanted = not rows or panel["title"] in rows
            shift = place["y"] - bottom
        if is_wanted:
            place["y"] -= shift
            bottom = max(bottom, place["y"] + place["h"])
            found.append(panel)
    return found


def draw(source: Source, rows: list[str], target: Path) -> None:
    """The panels, as they lie in the dashboard."""
    panels = chosen(rows)
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    line = 1 / bottom  # a grid row's height
    figure = plt.figure(figsize=(WIDTH, bottom * UNIT))
    for panel in panels:
        place = panel["gridPos"]
        left, top = place["x"] / COLUMNS, 1 - place["y"] * line
        width, height = place["w"] / COLUMNS, place["h"] * line
        if panel["type"] == "row":
            figure.text(0.008, top - 0.8 * line, panel["title"], fontsize=14, weight="bold")
            continue
        figure.text(left + 0.012, top - 0.75 * line, panel["title"], fontsize=10, weight="bold")
        has_lines = panel["type"] == "timeseries"
        side, below = (0.036, 2.3 * line) if has_lines else (0.01, 0.2 * line)
        box = (left + side, top - height + below, width - side - 0.01, height - below - line)
        DRAW[panel["type"]](_axes(figure, box, has_lines), panel, source)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=DPI)
    Image.open(target).convert("RGB").quantize(192).save(target, optimize=True)


def _axes(figure: Any, box: tuple[float, ...], has_lines: bool) -> Any:
    axes = figure.add_axes(box)
    axes.tick_params(colors=FAINT, labelsize=7.5, length=2)
    for spine in axes.spines.values():
        spine.set_color("#d0d7de")
    if not has_lines:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
    return axes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--ago", type=float, default=0.0, help="minutes since the range ended")
    parser.add_argument("--run", default=".*", help="a regular expression")
    parser.add_argument("--rows", nargs="*", default=[], help="of the dashboard; all, if none is named")
    parser.add_argument("--target", type=Path, default=TARGET)
    asked = parser.parse_args()
    draw(Source(asked.url, asked.minutes, asked.ago, asked.run), asked.rows, asked.target)


if __name__ == "__main__":
    main()

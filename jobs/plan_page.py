"""A plan as a page of HTML that stands alone: figures, who works when, and what more GPUs would bring."""

import heapq
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.rehearsal import STAGES, Bars
from jobs.plan import Plan
from jobs.plan_words import figures, hours, stage_rows, sweep_rows
from ltx_ray.types import Stage

_WIDTH, _LEFT = 1120, 90  # pixels of a chart, and of what stands left of it
_LANE = 9
_MOST_LANES, _MOST_BARS = 40, 8000  # of one stage; of the page
_BINS = 280
_COLOURS = {
    Stage.CONDITION: ("#8a6d3b", "#b8965a"),
    Stage.DENOISE: ("#1f5fa8", "#5b9bd8"),
    Stage.DECODE: ("#2e7d4f", "#63b083"),
    Stage.ASSEMBLE: ("#8e4585", "#bd7fb5"),
    Stage.FINISH: ("#a33c2e", "#d47a6d"),
}
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse }
td, th { padding: .15rem 1rem .15rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto; background: #fafafa } text { font: 11px system-ui, sans-serif; fill: #555 }
.note { color: #666 }
"""


def page(plans: Sequence[tuple[Plan, Bars]], manifest: str) -> str:
    """The page; the charts are those of the last plan, the sweep is of all."""
    chosen, bars = plans[-1]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Plan of {escape(manifest)}</title>",
        f"<style>{_STYLE}</style><h1>Plan of {escape(manifest)}</h1>",
        _table([], figures(chosen)).replace("<td class=n>", "<td>"),
    ]
    if len(plans) > 1:
        parts += ["<h2>More or fewer GPUs</h2>", _table(*sweep_rows([plan for plan, _ in plans]))]
        parts += [_curve([plan for plan, _ in plans])]
    parts += ["<h2>Stages</h2>", _table(*stage_rows(chosen))]
    parts += ["<h2>Actors at work</h2>", _busy(bars, chosen.makespan)]
    parts += ["<h2>Who works when</h2>", _gantt(bars, chosen.makespan), "</html>\n"]
    return "\n".join(parts)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        made = (f"<{tag}{' class=n' if i else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells))
        return f"<tr>{''.join(made)}</tr>"

    return f"<table>{line(head, 'th') if head else ''}{''.join(line(row, 'td') for row in rows)}</table>"


def _columns(bars: Bars) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    stages, shots = np.frombuffer(bars.stages, np.int8), np.frombuffer(bars.shots, np.uint32)
    return stages, shots, np.frombuffer(bars.begins), np.frombuffer(bars.ends)


def busy_curves(bars: Bars, makespan: float, bins: int = _BINS) -> NDArray[np.float64]:
    """[stages, bins]: actors of each stage that work, on average over each of ``bins`` equal times."""
    stages, _, begins, ends = _columns(bars)
    edges = np.linspace(0, makespan, bins + 1)
    curves = np.zeros((len(STAGES), bins))
    for number in range(len(STAGES)):
        starts, stops = np.sort(begins[stages == number]), np.sort(ends[stages == number])
        # Seconds worked until each edge: of all that began before it, less what is left of those at work.
        worked = _sum_until(starts, edges) - _sum_until(stops, edges)
        curves[number] = np.diff(worked) / np.diff(edges)
    return curves


def _sum_until(times: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each edge, the sum of its distances from all ``times`` (sorted) before it."""
    sums = np.concatenate([[0.0], np.cumsum(times)])
    number = np.searchsorted(times, edges)
    return np.asarray(number * edges - sums[number])


def _busy(bars: Bars, makespan: float) -> str:
    curves = busy_curves(bars, makespan)
    top, height, x = max(float(curves.sum(0).max()), 1e-9), 180, _scale(makespan)
    edges = np.linspace(0, makespan, curves.shape[1] + 1)
    shapes, below = [], np.zeros(curves.shape[1])
    for stage, curve in zip(STAGES, curves, strict=True):
        upper = below + curve
        path = [
            f"{x(edges[i + k]):.1f},{height - height * upper[i] / top:.1f}"
            for i in range(len(upper))
            for k in (0, 1)
        ]
        path += [
            f"{x(edges[i + k]):.1f},{height - height * below[i] / top:.1f}"
            for i in reversed(range(len(below)))
            for k in (1, 0)
        ]
        shapes.append(
            f'<polygon points="{" ".join(path)}" fill="{_COLOURS[stage][1]}"><title>{stage}</title></polygon>'
        )
        below = upper
    label = f'<text x="4" y="12">{top:,.3g} actors</text><text x="4" y="{height}">0</text>'
    return _svg(height + 20, [*shapes, label, _axis(height, makespan)]) + _legend()


def _gantt(bars: Bars, makespan: float) -> str:
    stages, shots, begins, ends = _columns(bars)
    x, y, shapes, left_out = _scale(makespan), 0, [], 0
    for number, stage in enumerate(STAGES):
        chosen = np.flatnonzero(stages == number)
        lanes = lanes_of(begins[chosen], ends[chosen])
        shown = chosen[lanes < _MOST_LANES]
        shown, rows = shown[: _MOST_BARS // len(STAGES)], lanes[lanes < _MOST_LANES]
        left_out += len(chosen) - len(shown)
        if not len(chosen):
            continue
        shapes.append(f'<text x="4" y="{y + 10}">{stage}</text>')
        for bar, row in zip(shown, rows, strict=False):
            shot, begin, end = int(shots[bar]), float(begins[bar]), float(ends[bar])
            width = max(x(end) - x(begin) - 0.4, 0.4)
            shapes.append(
                f'<rect x="{x(begin):.1f}" y="{y + _LANE * int(row)}" width="{width:.1f}" '
                f'height="{_LANE - 1}" fill="{_COLOURS[stage][shot % 2]}"><title>'
                f"{escape(bars.ids[shot])}: {stage}, {hours(begin)} to {hours(end)}</title></rect>"
            )
        y += _LANE * (min(int(lanes.max()) + 1, _MOST_LANES)) + 8
    note = (
        f"<p class=note>{left_out:,} tasks of further actors, or later ones, are not drawn.</p>"
        if left_out
        else ""
    )
    return _svg(y + 20, [*shapes, _axis(y, makespan)]) + note


def lanes_of(begins: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.int64]:
    """A lane for each bar, so that no two in a lane overlap: the lowest that is free when it begins."""
    lanes = np.zeros(len(begins), np.int64)
    free: list[int] = []
    taken: list[tuple[float, int]] = []
    most = 0
    for bar in np.lexsort((ends, begins)):
        while taken and taken[0][0] <= begins[bar] + 1e-9:
            heapq.heappush(free, heapq.heappop(taken)[1])
        if free:
            lanes[bar] = heapq.heappop(free)
        else:
            lanes[bar], most = most, most + 1
        heapq.heappush(taken, (float(ends[bar]), int(lanes[bar])))
    return lanes


def _curve(plans: Sequence[Plan]) -> str:
    """GPU-hours over makespan, a point for each number of GPUs."""
    height, longest = 200, max(plan.makespan for plan in plans)
    most, x = max(plan.gpu_hours for plan in plans) * 1.1 or 1.0, _scale(longest * 1.05)
    points = [(x(plan.makespan), height - height * plan.gpu_hours / most, plan.gpus) for plan in plans]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in points)
    dots = [
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="#1f5fa8"/>'
        f'<text x="{a + 6:.1f}" y="{b - 6:.1f}">{gpus} GPUs</text>'
        for a, b, gpus in points
    ]
    label = f'<text x="4" y="12">{most:,.3g} GPU-hours</text><text x="4" y="{height}">0</text>'
    path = f'<polyline points="{line}" fill="none" stroke="#1f5fa8"/>'
    return _svg(height + 20, [path, *dots, label, _axis(height, longest * 1.05)])


def _scale(most: float) -> Any:
    return lambda value: _LEFT + (_WIDTH - _LEFT - 10) * value / max(most, 1e-9)


def _axis(y: int, most: float) -> str:
    x = _scale(most)
    ticks = [*(most * i / 6 for i in range(6)), most]
    lines = [f'<line x1="{x(t):.1f}" x2="{x(t):.1f}" y1="0" y2="{y}" stroke="#0002"/>' for t in ticks]
    words = [
        f'<text x="{x(t):.1f}" y="{y + 14}" text-anchor="{"end" if t == most else "start"}">{hours(t)}</text>'
        for t in ticks
    ]
    return "".join([*lines, *words])


def _legend() -> str:
    items = (f'<span style="color:{_COLOURS[stage][0]}">&#9632;</span> {stage}' for stage in STAGES)
    return f"<p class=note>{' &nbsp; '.join(items)}</p>"


def _svg(height: int, shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(shapes)}</svg>'

"""Panels of the work: what each asks Prometheus, and what a person on call reads from it.

``make_dashboard.py`` makes Grafana's JSON of them. ``RUN`` in a query chooses run and shard, ``RATE`` is a
window that suits the time range.
"""

from dataclasses import dataclass
from typing import Any

RUN = 'run=~"$run", shard=~"$shard"'
RATE = "[$__rate_interval]"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel. ``queries``: (expression, legend)."""

    title: str
    text: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"  # or stat, gauge, table
    width: int = 8  # of 24
    height: int = 8
    stacked: bool = False
    limits: tuple[float, ...] = ()  # from which on it is orange, and red
    words: tuple[str, ...] = ()  # for the values 0, 1, 2
    most: float | None = None  # of the scale


def _stat(title: str, text: str, expression: str, **more: Any) -> Panel:
    return Panel(title=title, text=text, queries=((expression, ""),), kind="stat", width=3, height=4, **more)


def quantile(q: float, metric: str, by: str = "") -> tuple[str, str]:
    """A quantile of a histogram, for each value of a label."""
    labels = f"{by}, le" if by else "le"
    legend = f"{{{{{by}}}}}" if by else {0.5: "median", 0.95: "95%"}[q]
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{RUN}}}{RATE})))", legend


OVERVIEW = (
    _stat(
        "State",
        "Of the coordinator. No data: it was not scraped yet, or is gone; see LtxRayCoordinatorGone.",
        f"max(ltx_ray_running{{{RUN}}} + ltx_ray_paused{{{RUN}}})",
        words=("ended", "at work", "paused"),
    ),
    _stat(
        "Rows that have ended",
        "Of the manifest, in this or an earlier call, however they ended.",
        f"sum(ltx_ray_manifest_rows_ended{{{RUN}}}) / sum(ltx_ray_manifest_rows{{{RUN}}})",
        unit="percentunit",
    ),
    _stat(
        "Time left",
        "By the work that is left and the rate so far. Steady after the first few shots.",
        f"max(ltx_ray_estimated_seconds_left{{{RUN}}})",
        unit="dtdurations",
    ),
    _stat(
        "Failed shots",
        "In this or an earlier call. `ltx-ray status OUT` says why; `ltx-ray retry` tries again.",
        f'sum(ltx_ray_manifest_rows_ended{{{RUN}, outcome="failed"}})',
        limits=(1, 10),
    ),
    _stat(
        "Frames per second",
        "That become final: what the denoisers make.",
        f'sum(rate(ltx_ray_frames_total{{{RUN}, stage="denoise"}}{RATE}))',
    ),
    _stat(
        "GPUs at work",
        "Of the GPUs that actors hold, the share that has a task. No number on a machine without GPUs.",
        f"sum(rate(ltx_ray_gpu_busy_seconds_total{{{RUN}}}{RATE}))"
        f" / sum(rate(ltx_ray_gpu_held_seconds_total{{{RUN}}}{RATE}))",
        unit="percentunit",
    ),
    _stat(
        "Cost, this time range",
        "GPU-hours held times metrics.price_per_gpu_hour, in its currency.",
        f"sum(increase(ltx_ray_cost_total{{{RUN}}}[$__range]))",
    ),
    _stat(
        "Alerts",
        "That fire now. Each has a runbook line.",
        'count(ALERTS{alertname=~"LtxRay.*", alertstate="firing", run=~"$run"}) or vector(0)',
        limits=(1, 3),
    ),
    Panel(
        title="Rows by how they ended",
        text="A line that is flat while the run is at work: look at Stages.",
        queries=((f"sum by (outcome) (ltx_ray_manifest_rows_ended{{{RUN}}})", "{{outcome}}"),),
        width=12,
        stacked=True,
    ),
    Panel(
        title="Frames per second",
        text="denoise: became final; assemble: encoded; finish: in finished videos. They agree over time.",
        queries=((f"sum by (stage) (rate(ltx_ray_frames_total{{{RUN}}}{RATE}))", "{{stage}}"),),
        width=12,
    ),
)

STAGES = (
    Panel(
        title="Busy, by stage",
        text="Share of their time in which actors have a task. All others wait for the fullest stage.",
        queries=(
            (
                f"sum by (stage) (rate(ltx_ray_busy_seconds_total{{{RUN}}}{RATE}))"
                f" / sum by (stage) (rate(ltx_ray_actor_seconds_total{{{RUN}}}{RATE}))",
                "{{stage}}",
            ),
        ),
        unit="percentunit",
        width=6,
        most=1,
    ),
    Panel(
        title="Queue",
        text="Tasks that could begin, and wait: for an actor, or (decode) for room in memory.",
        queries=((f"sum by (stage) (ltx_ray_queue_tasks{{{RUN}}})", "{{stage}}"),),
        width=6,
    ),
    Panel(
        title="Oldest task in the queue",
        text="Grows without end where a stage stands still.",
        queries=((f"max by (stage) (ltx_ray_queue_oldest_seconds{{{RUN}}})", "{{stage}}"),),
        unit="s",
        width=6,
    ),
    Panel(
        title="Tasks per minute",
        text="That ended well.",
        queries=((f"60 * sum by (stage) (rate(ltx_ray_stage_seconds_count{{{RUN}}}{RATE}))", "{{stage}}"),),
        width=6,
    ),
    Panel(
        title="Time of a task, median",
        text="Of tasks that ended well. One that grows: larger shots, or nodes that became slower.",
        queries=(quantile(0.5, "ltx_ray_stage_seconds", "stage"),),
        unit="s",
    ),
    Panel(
        title="Time of a task, 95%",
        text="One task of twenty takes longer. Far above the median: shots of many sizes, or a slow node.",
        queries=(quantile(0.95, "ltx_ray_stage_seconds", "stage"),),
        unit="s",
    ),
    Panel(
        title="Pixels per second",
        text="decode: of tiles, with what is blended; the others: of frames.",
        queries=((f"sum by (stage) (rate(ltx_ray_pixels_total{{{RUN}}}{RATE}))", "{{stage}}"),),
    ),
)

CHUNKS = (
    Panel(
        title="Chunks per minute",
        text="Tries of chunks by what followed. failed: their shot has failed.",
        queries=((f"60 * sum by (outcome) (rate(ltx_ray_chunks_total{{{RUN}}}{RATE}))", "{{outcome}}"),),
        width=6,
    ),
    Panel(
        title="Between two chunks",
        text="From the end of a chunk to the beginning of the next of its shot: commit, queue, transfer.",
        queries=(
            quantile(0.5, "ltx_ray_overlap_wait_seconds"),
            quantile(0.95, "ltx_ray_overlap_wait_seconds"),
        ),
        unit="s",
        width=6,
    ),
    Panel(
        title="Denoisers that wait for a chunk",
        text="Denoisers without work, on average, while chunks wait for the chunk before them: too few shots "
        "are in work. Raise pools.max_active_shots.",
        queries=((f"sum(rate(ltx_ray_overlap_idle_seconds_total{{{RUN}}}{RATE}))", "idle denoisers"),),
        width=6,
    ),
    Panel(
        title="In work",
        text="Shots in work, and chunks of them that wait for the chunk before.",
        queries=(
            (f"sum(ltx_ray_active_shots{{{RUN}}})", "shots"),
            (f"sum(ltx_ray_chunks_waiting{{{RUN}}})", "chunks that wait"),
        ),
        width=6,
    ),
)

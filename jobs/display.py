"""What a person sees of a run: a live table on a terminal, a line every half minute elsewhere."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from actors.progress import Progress, StageProgress, Summary
from cluster.facts import Job
from jobs.job_state import Seen, advice
from jobs.status import Report, ShardReport
from ltx_ray.visible import visible

_LINE_SECONDS = 30.0
_ERROR_CHARACTERS = 200
_LOG_LINES = 5  # of what a failed job printed
_STYLES = {"running": "green", "paused": "yellow", "ended": "", "gone": "red", "silent": "red"}  # of drivers
_JOB_STYLES = {"FAILED": "red", "STOPPED": "yellow", "RUNNING": "green"}


class Display:
    """Shows the progress of a run on ``console`` for the length of a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, transient=True, refresh_per_second=4) if console.is_terminal else None
        )
        self._told_at = time.monotonic()

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def update(self, progress: Progress | None) -> None:
        """Show ``progress``; None while the run is being set up."""
        if self._live:
            self._live.update(live_view(progress))
        elif progress is not None and time.monotonic() - self._told_at >= _LINE_SECONDS:
            self._told_at = time.monotonic()
            self._console.print(line(progress), highlight=False, soft_wrap=True)


def live_view(progress: Progress | None) -> Group:
    """The live table."""
    if progress is None:
        return Group(Text("reading the manifest and starting ...", style="dim"))
    head = Table.grid(padding=(0, 2))
    head.add_row(
        ProgressBar(total=max(progress.total, 1), completed=progress.ended, width=32),
        f"{progress.ended}/{progress.total} shots",
        Text(f"{progress.done} done", style="green"),
        f"{progress.running} running",
        Text(f"{progress.failed} failed", style="red" if progress.failed else "dim"),
        Text(f"{progress.rejected} rejected", style="yellow" if progress.rejected else "dim"),
    )
    stages = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("stage", "workers", "running", "queued", "done", "per second"):
        stages.add_column(title, justify="left" if title == "stage" else "right")
    for name, stage in progress.stages.items():
        stages.add_row(name, *stage_cells(stage, progress.elapsed))
    rate = progress.frames / progress.elapsed if progress.elapsed else 0.0
    foot = (
        f"{rate:.1f} frames/s   {clock(progress.elapsed)} elapsed   ETA {clock(progress.eta)}   "
        f"{progress.decoded_bytes / 2**20:,.0f} MiB decoded in flight   {progress.retries} retries"
    )
    parts: list[RenderableType] = [head, stages, Text(foot)]
    if progress.quarantined:
        names = ", ".join(progress.quarantined)
        parts.append(
            Text(f"left out, because work fails there or could not begin: node {names}", style="red")
        )
    if progress.message:
        parts.append(Text(shortened(progress.message), style="yellow"))
    return Group(*parts)


def stage_cells(stage: StageProgress, elapsed: float) -> list[str]:
    """One row of the live table, without its name."""
    rate = stage.done / elapsed if elapsed else 0.0
    workers = f"{stage.workers}+{stage.launching}" if stage.launching else str(stage.workers)
    return [workers, str(stage.running), str(stage.queued), str(stage.done), f"{rate:.2f}"]


def line(progress: Progress) -> str:
    """One line for logs."""
    rate = progress.frames / progress.elapsed if progress.elapsed else 0.0
    queues = ", ".join(f"{name} {s.running}+{s.queued}" for name, s in progress.stages.items())
    return (
        f"{progress.ended}/{progress.total} shots ({progress.done} done, {progress.failed} failed, "
        f"{progress.rejected} rejected, {progress.running} running), {rate:.1f} frames/s, "
        f"ETA {clock(progress.eta)}, running+queued: {queues}"
    )


def summary_table(summary: Summary, out: str) -> Table:
    """The table at the end."""
    progress = summary.progress
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    if summary.interrupted:
        table.add_row("interrupted", Text("the same command goes on", style="yellow"))
    earlier = f" ({progress.skipped} rows had ended before)" if progress.skipped else ""
    table.add_row("shots", f"{progress.total}{earlier}")
    table.add_row("done", Text(str(progress.done), style="green"))
    table.add_row("failed", Text(str(progress.failed), style="red" if progress.failed else ""))
    table.add_row("rejected", Text(str(progress.rejected), style="yellow" if progress.rejected else ""))
    if progress.cancelled:
        table.add_row("cancelled", Text(str(progress.cancelled), style="yellow"))
    table.add_row("frames", f"{progress.frames:,} in {clock(progress.elapsed)}")
    if progress.retries:
        table.add_row("retries", str(progress.retries))
    for name, stage in progress.stages.items():
        if stage.done:
            table.add_row(name, f"{stage.done} tasks in {stage.seconds:,.1f} s")
    for shot_id, error in summary.failures:
        table.add_row(Text(shot_id, style="red"), Text(shortened(error)))
    table.add_row("videos", Text(visible(f"{out.rstrip('/')}/videos")))
    table.add_row("manifest", Text(visible(f"{out.rstrip('/')}/manifest")))
    return table


def status_table(report: Report) -> Table:
    """What ``ltx-ray status`` tells."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    driver = report.driver
    if driver is not None:
        heard = f"heard of {clock(driver.seconds_ago)} ago"
        table.add_row(
            "driver",
            Text(
                f"{driver.state} (process {driver.pid} on {visible(driver.host)}, {heard})",
                style=_STYLES[driver.state],
            ),
        )
    if report.total is not None:
        table.add_row("shots", str(report.total))
    for name, count in report.ended.items():
        table.add_row(name, str(count))
    progress = report.progress or {}
    for node in progress.get("quarantined", ()):
        table.add_row(
            Text("left out", style="red"), Text(f"node {visible(node)}: work fails there or could not begin")
        )
    if progress.get("message"):
        table.add_row("last trouble", Text(shortened(progress["message"])))
    for kind, count in report.failed_by_kind.items():
        table.add_row(Text(f"failed: {visible(kind)}", style="red"), str(count))
    for shot_id, error in report.failures:
        table.add_row(Text(visible(shot_id), style="red"), Text(shortened(error)))
    for shard in report.shards:
        table.add_row(f"shard {shard.shard}", _shard_text(shard))
    return table


def _shard_text(shard: ShardReport) -> Text:
    if shard.driver is None:
        return Text("nobody has begun it", style="yellow")
    driver, ended = shard.driver, sum(shard.ended.values())
    total = "?" if shard.total is None else shard.total
    bad = ", ".join(f"{count} {name}" for name, count in shard.ended.items() if name != "done" and count)
    where = "" if driver.state == "ended" else f", process {driver.pid} on {visible(driver.host)}"
    return Text(
        f"{driver.state}: {ended}/{total} shots{f' ({bad})' if bad else ''}{where}",
        style=_STYLES[driver.state],
    )


def jobs_table(jobs: Mapping[str, Job]) -> Table:
    """What the job server tells of the last jobs of a run's shards."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for shard, job in jobs.items():
        style = _JOB_STYLES.get(job.state, "")
        table.add_row(f"job of shard {shard}", Text(f"{visible(job.id)}: {job.state}", style=style))
    if not jobs:
        table.add_row("jobs", Text("none was submitted there for this OUT", style="yellow"))
    return table


def job_table(seen: Seen) -> Table:
    """What the job server tells, and where that does not go together with OUT."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    job = seen.job
    if job is None:
        table.add_row("job", Text(visible(seen.problem or "none"), style="yellow"))
        return table
    table.add_row("job", Text(f"{visible(job.id)}: {job.state}", style=_JOB_STYLES.get(job.state, "")))
    lines = job.message.strip().splitlines()
    if job.state == "FAILED":  # what failed stands first, and what it said last at the end
        lines = lines[:1] + lines[1:][-_LOG_LINES:]
    for text in lines if job.state == "FAILED" else lines[:1]:
        table.add_row("", Text(shortened(text)))
    for title, what in (("but", seen.disagreement), ("to do", advice(job))):
        if what:
            table.add_row(title, Text(visible(what), style="yellow"))
    return table


def clock(seconds: float | None) -> str:
    """Hours, minutes and seconds, or a dash."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shortened(message: str) -> str:
    """The last line of an error, which says what happened, in at most 200 printable characters."""
    last = visible(message.strip().rpartition("\n")[2])
    return last if len(last) <= _ERROR_CHARACTERS else last[: _ERROR_CHARACTERS - 3] + "..."

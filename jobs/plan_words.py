"""A plan in words and figures, for the terminal and for the page."""

import math
from collections.abc import Sequence

from jobs.plan import Plan


def hours(seconds: float) -> str:
    """A time as people say it: 12.3 s, 4 min 5 s, 3 h 2 min, 2 d 4 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = ((60, "min", 1, "s", 3600), (3600, "h", 60, "min", 48 * 3600), (86400, "d", 3600, "h", math.inf))
    unit, name, below, small, _ = next(each for each in units if whole < each[-1])
    first, rest = divmod(round(whole / below), unit // below)
    return f"{first} {name} {rest} {small}" if rest else f"{first} {name}"


def figures(plan: Plan) -> list[tuple[str, str]]:
    """What a person asks first."""
    where = f"{plan.gpus:,} GPUs" if plan.gpus else f"{plan.cpus:,} CPUs"
    rows = [
        (
            "shots",
            f"{plan.shots:,} of {plan.chunks:,} chunks"
            + (f", {plan.rejected:,} rejected rows" if plan.rejected else ""),
        ),
        ("on", where),
        ("takes", f"{hours(plan.makespan)}, where {hours(plan.least)} are the least that is possible"),
        ("longest shot", f"{plan.longest_shot}: {hours(plan.longest_chain)}, one chunk after the other"),
    ]
    if plan.gpus:
        rows.append(("GPU-hours", f"{plan.gpu_hours:,.2f}, at work {plan.busy:.0%} of them"))
        if plan.cost:
            rows.append(("cost", f"{plan.cost:,.2f}"))
        rows.append(("best split", ", ".join(f"{size:,} {stage}" for stage, size in plan.best_split.items())))
    rows.append(("decoded at most", f"{plan.peak_decoded_bytes / 2**30:,.2f} GiB at a time"))
    if plan.retries:
        rows.append(("lost and made again", f"{plan.retries:,} tasks"))
    return rows


def stage_rows(plan: Plan) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of stages."""
    rows = [
        [stage, hours(seconds), f"{plan.actors[stage]:,.1f}", f"{plan.stage_busy[stage]:.0%}"]
        for stage, seconds in plan.work.items()
    ]
    return ["stage", "work in all", "actors on average", "at work"], rows


def sweep_rows(plans: Sequence[Plan]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of numbers of GPUs."""
    rows = [
        [f"{p.gpus:,}", hours(p.makespan), f"{p.gpu_hours:,.2f}", f"{p.busy:.0%}", f"{p.cost:,.2f}"]
        for p in plans
    ]
    return ["GPUs", "takes", "GPU-hours", "at work", "cost"], rows

"""The command ``ltx-ray status``, and how a run is told to people. It needs OUT; of a job, its server,
too.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.options import Exit, Json, Out, Shard, absolute, leave
from ltx_ray.visible import visible

if TYPE_CHECKING:
    from cluster.submission import JobServer
    from jobs.job_state import Seen
    from jobs.status import Report
    from ltx_ray.shard import Shard as Part

_FOLLOW_S = 2.0
_LASTING = 5  # looks at a run


def status(
    output: Out,
    follow: Annotated[bool, typer.Option("--follow", help="Go on telling until the driver ends.")] = False,
    address: Annotated[
        str | None,
        typer.Option(help="Job server, http://HEAD:8265: tell what it says of the last submitted job, too."),
    ] = None,
    shard: Shard = None,
    as_json: Json = False,
) -> None:
    """Tell how the run in OUTPUT is, whether its driver lives or not."""
    from ltx_ray.shard import Shard as Part

    out, part = absolute(output), Part.parse(shard) if shard else None
    if address is not None:
        _status_with_job(out, address, follow, as_json, part)
        return
    from jobs.job_state import Seen

    tell_end(Seen(report=_reported(out, part, follow), job=None), as_json)


def _reported(out: str, shard: "Part | None", follow: bool) -> "Report":
    """How the run is; with ``follow`` once its drivers have ended, and until then it is told."""
    from jobs.display import line
    from jobs.status import progress_of, report

    found = report(out, shard)
    while follow and found.driver is not None and found.driver.state in ("running", "paused"):
        if found.progress is not None:
            _narrate(line(progress_of(found.progress)))
        time.sleep(_FOLLOW_S)
        found = report(out, shard)
    return found


def _status_with_job(out: str, address: str, follow: bool, as_json: bool, shard: "Part | None") -> None:
    from cluster.submission import JobServer, checked_address
    from jobs.job_watch import latest_job, look, watch
    from jobs.status import is_begun, shards_of
    from ltx_ray.errors import ConfigError
    from ltx_ray.shard import WHOLE
    from ltx_ray.storage import Store

    server = JobServer(checked_address(address))
    shards = shards_of(Store(out)) if is_begun(out) else (WHOLE,)
    if shard is None and len(shards) > 1:
        _status_with_jobs(out, server, shards, follow, as_json)
        return
    part = shard or WHOLE
    job = latest_job(out, server, part)
    seen = look(out, job.id if job else None, server, part)
    if seen.report is None and seen.job is None:
        raise ConfigError(
            f"OUT must be the --output of a run, got {out}: there is none, and no job at {address}"
        )
    if follow:
        try:
            seen = watch(out, job.id if job else None, server, Narrator(_narrate).show, part)
        except KeyboardInterrupt:
            leave(Exit.CTRL_C)
    tell_end(seen if job else replace(seen, problem="none was submitted there for this OUT"), as_json)


def _status_with_jobs(
    out: str, server: "JobServer", shards: "Sequence[Part]", follow: bool, as_json: bool
) -> None:
    """Of a run that is divided: OUT, and the last job of each shard."""
    from rich.console import Console

    from jobs.display import jobs_table, status_table
    from jobs.job_watch import latest_jobs

    found = _reported(out, None, follow)
    jobs = {str(shard): job for shard, job in latest_jobs(out, server, shards).items()}
    if as_json:
        told = {**asdict(found), "jobs": {shard: asdict(job) for shard, job in jobs.items()}}
        typer.echo(json.dumps(told, indent=2))
        return
    Console().print(jobs_table(jobs))
    Console().print(status_table(found))


class Narrator:
    """Tells what is new of a run that is watched. None: nobody wants to hear of it."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        self._told: dict[str, str] = {}
        self._disagreed = 0  # looks in a row

    def show(self, seen: "Seen") -> None:
        """Say what has changed since the last look."""
        if self._tell is None:
            return
        from jobs.display import line
        from jobs.status import progress_of

        # Where one begins or ends, they do not go together for a moment.
        self._disagreed = self._disagreed + 1 if seen.disagreement else 0
        is_lasting = self._disagreed >= _LASTING
        texts = {"job": job_line(seen), "but": (seen.disagreement or "") if is_lasting else ""}
        report = seen.report
        if report is not None and report.driver is not None and report.progress is not None:
            is_live = report.driver.state in ("running", "paused")
            texts["run"] = line(progress_of(report.progress)) if is_live else ""
        for kind, text in texts.items():
            if text and self._told.get(kind) != text:
                self._tell(text)
            self._told[kind] = text


def job_line(seen: "Seen") -> str:
    """The job server's view in a line; empty where there is nothing to say."""
    if seen.job is None:
        return seen.problem or ""
    message = seen.job.message.strip().partition("\n")[0]
    return f"job {seen.job.id}: {seen.job.state}: {message}"


def tell_end(seen: "Seen", as_json: bool) -> None:
    """What is known, as a table or as one JSON document, on stdout."""
    if as_json:
        told = asdict(seen.report) if seen.report else {}
        if seen.job is not None or seen.problem is not None:
            job = asdict(seen.job) if seen.job else None
            told |= {"job": job, "job_problem": seen.problem, "disagreement": seen.disagreement}
        typer.echo(json.dumps(told, indent=2))
        return
    from rich.console import Console

    from jobs.display import job_table, status_table

    if seen.job is not None or seen.problem is not None:
        Console().print(job_table(seen))
    if seen.report is not None:
        Console().print(status_table(seen.report))


def _narrate(text: str) -> None:
    typer.echo(visible(text), err=True)

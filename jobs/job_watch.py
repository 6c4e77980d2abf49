"""Looks at a submitted run from both sides: at OUT, which is the run, and at the job server, which knows
whether its process waits, lives or has ended."""

import hashlib
import time
from collections.abc import Callable, Sequence

from cluster.facts import Job
from cluster.submission import JobServer, JobServerLostError
from jobs.job_state import Seen
from jobs.status import is_begun, report
from ltx_ray.errors import StorageError
from ltx_ray.shard import WHOLE, Shard

_LOOK_SECONDS = 2.0
_FAILURES = 10  # of storage, in a row, until it is believed
_SILENCES = 30  # likewise of the job server
_DIGITS = 12  # of the hash of OUT, in a job's id


def prefix_of(out: str, shard: Shard = WHOLE) -> str:
    """How the ids of all jobs of ``shard`` of ``out`` begin; the number of the attempt follows."""
    prefix = f"ltx-ray-{hashlib.sha256(out.rstrip('/').encode()).hexdigest()[:_DIGITS]}-"
    return prefix if shard == WHOLE else f"{prefix}{shard.name}-"


def jobs_of(out: str, server: JobServer, shard: Shard = WHOLE) -> list[Job]:
    """The jobs that were submitted for ``shard`` of ``out``, the oldest first."""
    prefix = prefix_of(out, shard)
    return [job for job in server.jobs(prefix) if job.id.removeprefix(prefix).isdecimal()]


def latest_job(out: str, server: JobServer, shard: Shard = WHOLE) -> Job | None:
    """The last job that was submitted for ``shard`` of ``out``; None: there is none."""
    jobs = jobs_of(out, server, shard)
    return jobs[-1] if jobs else None


def latest_jobs(out: str, server: JobServer, shards: Sequence[Shard]) -> dict[Shard, Job]:
    """The last job of each of ``shards`` of ``out``, of those that have one."""
    jobs = server.jobs(prefix_of(out))
    found = {}
    for shard in shards:
        prefix = prefix_of(out, shard)
        ours = [job for job in jobs if job.id.startswith(prefix)]
        if ours:
            found[shard] = ours[-1]
    return found


def look(out: str, job_id: str | None, server: JobServer, shard: Shard = WHOLE) -> Seen:
    """How it is now. ``job_id`` None: there is no job. Raises StorageError, ConfigError."""
    found = report(out, None if shard == WHOLE else shard) if is_begun(out) else None
    if job_id is None:
        return Seen(report=found, job=None)
    try:
        return Seen(report=found, job=server.job(job_id))
    except JobServerLostError as error:
        return Seen(report=found, job=None, problem=str(error))


def watch(
    out: str, job_id: str | None, server: JobServer, show: Callable[[Seen], None], shard: Shard = WHOLE
) -> Seen:
    """Look until it is over; how it ended. Where the job server is silent for long, OUT alone decides.

    Raises StorageError where OUT cannot be read for long.
    """
    failures = silences = 0
    while True:
        try:
            seen = look(out, job_id, server, shard)
            show(seen)
            silences = 0 if seen.job or job_id is None else silences + 1
            is_alone = job_id is None or silences >= _SILENCES
            if (seen.job is not None and seen.job.is_over) or (is_alone and not seen.has_writer):
                # What the driver said last may be younger than what was read.
                return look(out, job_id, server, shard)
            failures = 0
        except StorageError:
            failures += 1
            if failures == _FAILURES:
                raise
        time.sleep(_LOOK_SECONDS)

"""What OUT and a cluster's job server say of one run, taken together. OUT is believed: it is the run."""

import re
from dataclasses import dataclass

from cluster.facts import Job
from jobs.options import Exit
from jobs.status import Driver, Report

# As the job tells of what was uploaded for it.
_UNSEEN = re.compile(r"/inputs/[0-9a-f]{64}\.\w+: [Nn]o such file")
_WRITING = ("running", "paused")
_EXITS = frozenset(Exit)
_NO_COMMAND = 127  # of a shell that does not find one


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A run at one moment."""

    report: Report | None  # None: there is no run in OUT yet
    job: Job | None  # None: there is none, or the job server does not answer
    problem: str | None = None  # why not

    @property
    def disagreement(self) -> str | None:
        """As of the function ``disagreement``."""
        return disagreement(self.report.driver if self.report else None, self.job) if self.job else None

    @property
    def has_writer(self) -> bool:
        """Whether a driver of OUT lives, as far as OUT tells."""
        driver = self.report.driver if self.report else None
        return driver is not None and driver.state in _WRITING


def is_complete(report: Report) -> bool:
    """Whether the last driver said, at its end, that every row has ended."""
    progress = report.progress
    if report.driver is None or report.driver.state != "ended" or progress is None:
        return False
    ended = sum(progress[name] for name in ("done", "failed", "rejected", "cancelled"))
    return bool(ended >= progress["total"])


def exit_code(report: Report | None, job: Job | None, epoch: int) -> Exit:
    """How ``render`` would have ended: by OUT (None: there is no run) where the job's driver has said
    good-bye there, else by the job that is over (None: unknown). ``epoch``: the last of OUT when the job was
    submitted.
    """
    is_its_own = report is not None and report.driver is not None and report.driver.epoch > epoch
    if report is not None and is_its_own and is_complete(report):
        progress = report.progress or {}
        has_bad = any(progress[name] for name in ("failed", "rejected", "cancelled"))
        return Exit.SOME_FAILED if has_bad else Exit.DONE
    if job is None:
        return Exit.INTERRUPTED
    if not job.began or job.exit_code == _NO_COMMAND:
        return Exit.PREFLIGHT
    if job.exit_code in _EXITS and job.exit_code != Exit.DONE:
        return Exit(job.exit_code)
    # Stopped, killed, lost with its node; or it says that all is done, and OUT does not.
    return Exit.INTERNAL if job.exit_code == Exit.DONE else Exit.INTERRUPTED


def disagreement(driver: Driver | None, job: Job) -> str | None:
    """What to say where OUT's driver and the job server's job do not go together; None: they do."""
    writes = driver is not None and driver.state in _WRITING
    if job.is_over and driver is not None and writes:
        heard = f"{_who(driver)} was heard of {driver.seconds_ago:.0f} s ago"
        return f"the job is over, but {heard}: it died with the job a moment ago, or is of another command"
    if job.state != "RUNNING" or writes:
        return None
    if driver is None:
        return "the job runs, but nobody has written to OUT yet: the driver is starting, or writes elsewhere"
    if driver.state == "ended":
        return "the job runs, but the last driver of OUT has ended: the next one is starting, or the job ends"
    return f"the job runs, but the driver of OUT is {driver.state} ({_who(driver)}): the next one is starting"


def advice(job: Job) -> str | None:
    """What to do about a job that failed, beyond what it says itself; None: nothing is known."""
    if job.state != "FAILED":
        return None
    if job.exit_code == _NO_COMMAND:
        return (
            "the head has no `python` on its PATH: start Ray there within the environment that has Ray and "
            "the libraries of ltx-ray"
        )
    if _UNSEEN.search(job.message):
        return (
            "the cluster does not see the OUT of this machine: give a URL, or --shared and a folder that "
            "every node has. A tunnel makes a cluster elsewhere look like one of this machine"
        )
    if "No module named" in job.message:
        return "a node lacks a library: install there what ltx-ray needs, and ltx-ray for --installed"
    return None


def _who(driver: Driver) -> str:
    return f"process {driver.pid} on {driver.host}"

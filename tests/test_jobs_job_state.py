"""OUT and the job server are told together: OUT is believed, what does not go together is said."""

from dataclasses import asdict, replace

import pytest

from actors.progress import Progress
from cluster.facts import Job
from jobs.job_state import advice, disagreement, exit_code, is_complete
from jobs.options import Exit
from jobs.status import Driver, Report

JOB = Job(
    id="ltx-ray-0-1", state="FAILED", message="", began=True, exit_code=None, submitted=0.0, metadata={}
)


def driver(state: str, epoch: int = 2) -> Driver:
    return Driver(state=state, host="head", pid=7, epoch=epoch, seconds_ago=3.0)


def out(state: str, epoch: int = 2, *, total: int = 3, **counts: int) -> Report:
    progress = asdict(replace(Progress.none(), total=total, **counts))
    return Report(
        output="out",
        model="tiny",
        version="0",
        driver=driver(state, epoch),
        total=total,
        ended={},
        failed_by_kind={},
        failures=(),
        progress=progress,
    )


@pytest.mark.parametrize(
    ("report", "state", "code", "began", "wanted"),
    [
        (out("ended", done=3), "SUCCEEDED", 0, True, Exit.DONE),
        (out("ended", done=2, rejected=1), "FAILED", 3, True, Exit.SOME_FAILED),
        (out("ended", done=2, cancelled=1), "STOPPED", None, True, Exit.SOME_FAILED),
        # The run is done, whatever became of the process that watched it.
        (out("ended", done=3), "FAILED", None, True, Exit.DONE),
        (out("ended", done=1), "FAILED", 75, True, Exit.INTERRUPTED),
        (out("ended", done=1, failed=1), "FAILED", 3, True, Exit.SOME_FAILED),  # --max-failures
        (out("gone", done=1), "FAILED", -9, True, Exit.INTERRUPTED),
        (out("running", done=1), "FAILED", 137, True, Exit.INTERRUPTED),
        (out("running", done=1), "STOPPED", None, True, Exit.INTERRUPTED),
        (out("running", 9, done=1), "FAILED", 4, True, Exit.PREFLIGHT),
        # What stood in OUT before the job says nothing of it.
        (out("ended", 1, done=3), "FAILED", 2, True, Exit.USAGE),
        (out("ended", 1, done=3), "FAILED", None, False, Exit.PREFLIGHT),
        (out("ended", 1, done=3), "FAILED", 127, True, Exit.PREFLIGHT),
        (out("ended", 1, done=3), "SUCCEEDED", 0, True, Exit.INTERNAL),
        (None, "FAILED", 1, True, Exit.INTERNAL),
        (None, "FAILED", 2, True, Exit.USAGE),
    ],
)
def test_the_exit_code_is_that_of_render(
    report: Report | None, state: str, code: int | None, began: bool, wanted: Exit
) -> None:
    job = replace(JOB, state=state, exit_code=code, began=began)
    assert exit_code(report, job, epoch=1) is wanted


def test_without_a_job_server_out_tells() -> None:
    assert exit_code(out("ended", done=3), None, epoch=1) is Exit.DONE
    assert exit_code(out("silent", done=1), None, epoch=1) is Exit.INTERRUPTED
    assert is_complete(out("ended", done=2, failed=1))
    assert is_complete(out("ended", total=0)), "a shard of a small manifest may have no rows"
    assert not is_complete(out("running", done=3))


@pytest.mark.parametrize(
    ("state", "job", "part"),
    [
        ("running", "RUNNING", None),
        ("paused", "RUNNING", None),
        (None, "PENDING", None),
        ("ended", "PENDING", None),
        ("ended", "SUCCEEDED", None),
        ("gone", "FAILED", None),
        (None, "FAILED", None),
        ("running", "FAILED", "process 7 on head was heard of 3 s ago"),
        ("running", "STOPPED", "the job is over"),
        (None, "RUNNING", "nobody has written to OUT yet"),
        ("ended", "RUNNING", "has ended"),
        ("gone", "RUNNING", "the driver of OUT is gone"),
        ("silent", "RUNNING", "the driver of OUT is silent"),
    ],
)
def test_what_does_not_go_together_is_said(state: str | None, job: str, part: str | None) -> None:
    said = disagreement(driver(state) if state else None, replace(JOB, state=job))
    assert (said is None) == (part is None)
    assert (part or "") in (said or "")


def test_what_to_do_about_a_node_that_lacks_something_is_said() -> None:
    assert "PATH" in (advice(replace(JOB, exit_code=127)) or "")
    assert "lacks a library" in (advice(replace(JOB, message="No module named 'av'")) or "")
    unseen = f"manifest /data/out/inputs/{'0' * 64}.jsonl: no such file or folder; check the path"
    assert "--shared" in (advice(replace(JOB, exit_code=2, message=unseen)) or "")
    assert advice(replace(JOB, exit_code=3)) is None

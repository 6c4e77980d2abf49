"""What a person sees of a run."""

import io
from dataclasses import replace

from rich.console import Console

from actors.progress import Progress, StageProgress, Summary
from jobs.display import Display, clock, line, live_view, status_table, summary_table
from jobs.status import Driver, Report, ShardReport

PROGRESS = Progress(
    total=10,
    done=4,
    failed=1,
    rejected=2,
    cancelled=0,
    skipped=1,
    running=3,
    retries=5,
    frames=960,
    elapsed=60.0,
    eta=3700.0,
    decoded_bytes=2**30,
    stages={
        "denoise": StageProgress(queued=7, running=2, workers=2, launching=1, done=30, seconds=90.0),
        "decode": StageProgress(queued=0, running=1, workers=4, launching=0, done=12, seconds=9.0),
    },
    message="shot-7 denoise-0001: CUDA out of memory",
)


OTHER = replace(
    PROGRESS,
    eta=60.0,
    elapsed=70.0,
    message="",
    stages={"finish": StageProgress(queued=1, running=0, workers=1, launching=0, done=2, seconds=1.0)},
)


def shown(view: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(view)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_the_live_view_tells_counts_rates_and_the_last_trouble() -> None:
    text = shown(live_view(PROGRESS))
    for part in ("7/10 shots", "4 done", "3 running", "1 failed", "2 rejected", "16.0 frames/s"):
        assert part in text
    for part in ("1:01:40", "1,024 MiB", "5 retries", "out of memory"):
        assert part in text
    row = next(row for row in text.splitlines() if row.strip().startswith("denoise"))
    assert row.split() == ["denoise", "2+1", "2", "7", "30", "0.50"]
    assert "starting" in shown(live_view(None))


def test_without_a_terminal_there_are_no_bars_but_lines() -> None:
    console = Console(file=io.StringIO(), width=200)
    with Display(console) as display:
        display.update(None)
        display.update(PROGRESS)
    assert console.file.getvalue() == "", "not before half a minute has passed"  # type: ignore[attr-defined]
    text = line(PROGRESS)
    assert "7/10 shots" in text
    assert "denoise 2+7" in text
    assert "\n" not in text


def test_the_summary_names_each_shot_that_failed_and_where_the_videos_are() -> None:
    summary = Summary(
        progress=PROGRESS,
        interrupted=True,
        failures=(("shot-7", "Traceback ...\nRuntimeError: no luck"),),
        cpu_seconds={},
    )
    text = shown(summary_table(summary, "s3://bucket/out/"))
    assert "the same command goes on" in text
    assert "shot-7" in text
    assert "RuntimeError: no luck" in text
    assert "s3://bucket/out/videos" in text


def test_clock() -> None:
    assert [clock(s) for s in (None, 0, 59.6, 3600, 360000)] == ["-", "0:00", "1:00", "1:00:00", "100:00:00"]


def test_shards_are_added_up() -> None:
    assert Progress.of_shards([PROGRESS]) is PROGRESS
    both = Progress.of_shards([PROGRESS, OTHER])
    assert (both.total, both.ended, both.running, both.frames) == (20, 14, 6, 1920)
    assert (both.elapsed, both.eta, both.message) == (70.0, 3700.0, PROGRESS.message)
    assert both.stages == {**PROGRESS.stages, **OTHER.stages}
    assert Progress.of_shards([PROGRESS, PROGRESS]).stages["denoise"].done == 60
    assert Progress.of_shards([PROGRESS, replace(PROGRESS, eta=None)]).eta is None
    over = replace(PROGRESS, total=7, eta=None)  # it has ended
    assert Progress.of_shards([OTHER, over]).eta == 60.0
    assert not Progress.of_shards([PROGRESS, replace(PROGRESS, paused=True)]).paused


def test_status_tells_each_shard_and_which_was_not_begun() -> None:
    here = Driver(state="gone", host="head", pid=7, epoch=1, seconds_ago=3.0)
    ended = {"done": 3, "failed": 1, "rejected": 0, "cancelled": 0}
    shards = (
        ShardReport(shard="1/3", driver=here, total=9, ended=ended),
        ShardReport(shard="2/3", driver=None, total=None, ended=dict.fromkeys(ended, 0)),
    )
    report = Report(
        output="out",
        model="tiny",
        version="0",
        driver=here,
        total=None,
        ended=ended,
        failed_by_kind={},
        failures=(),
        progress=None,
        shards=shards,
    )
    lines = [" ".join(line.split()) for line in shown(status_table(report)).splitlines()]
    assert "shard 1/3 gone: 4/9 shots (1 failed), process 7 on head" in lines
    assert "shard 2/3 nobody has begun it" in lines

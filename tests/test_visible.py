"""What rows, files and folders are called steers no terminal, and is no markup."""

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from runs import finish, start, write_beeps, write_manifest
from test_jobs_display import PROGRESS

from actors.progress import Summary
from cluster.facts import Job
from jobs.display import job_table, live_view, shortened, status_table, summary_table
from jobs.evaluate import Measured, tables
from jobs.job_state import Seen
from jobs.status import Driver, Report
from ltx_ray.visible import visible

TITLE = "\x1b]0;mine\x07"  # sets the title of the window
CLEAR = "\x1b[2J"
LINK = "[link=https://x.org]here[/link] [bold]x[/bold] [/]"


def on_a_terminal(view: Any) -> str:
    console = Console(file=io.StringIO(), width=300, force_terminal=True, color_system=None)
    console.print(view)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (CLEAR, "\\x1b[2J"),
        (TITLE, "\\x1b]0;mine\\x07"),
        ("100%\rdone", "100%\\rdone"),
        ("a\x9b2Jb", "a\\x9b2Jb"),
        ("a\u2028b\u0085c", "a\\u2028b\\x85c"),
        ("a\u202egpm.exe", "a\\u202egpm.exe"),
        ("lone \ud800", "lone \\ud800"),
        ("ein Hündchen, 犬 🐕, می‌خواهم", "ein Hündchen, 犬 🐕, می‌خواهم"),
    ],
)
def test_what_steers_is_written_out_and_what_people_write_stays(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(f"{text}\n\tb", lines=True) == f"{shown}\n\tb"


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_printed(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert visible(shown) == shown
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


def test_the_last_trouble_is_shown_as_it_is_written() -> None:
    trouble = f"Traceback\nOSError: no such file: {TITLE}{LINK}{CLEAR}"
    text = on_a_terminal(live_view(replace(PROGRESS, message=trouble)))
    assert LINK in text
    assert "\x1b" not in text
    assert shortened(trouble) == f"OSError: no such file: \\x1b]0;mine\\x07{LINK}\\x1b[2J"


def test_the_summary_shows_shots_errors_and_folders_as_they_are_called() -> None:
    failures = (("shot-7", f"a\n{LINK}{CLEAR}"),)
    summary = Summary(progress=PROGRESS, interrupted=False, failures=failures, cpu_seconds={})
    text = on_a_terminal(summary_table(summary, f"{LINK}{CLEAR}"))
    assert f"{LINK}\\x1b[2J/videos" in text
    assert text.count(f"{LINK}\\x1b[2J") == 3
    assert "\x1b" not in text


def test_the_status_of_a_strangers_folder_is_shown_as_it_is_written() -> None:
    odd = f"{LINK}{CLEAR}"
    report = Report(
        output=odd,
        model=odd,
        version=odd,
        driver=Driver(state="ended", host=odd, pid=1, epoch=1, seconds_ago=1.0),
        total=1,
        ended={"failed": 1},
        failed_by_kind={odd: 1},
        failures=((odd, odd),),
        progress=None,
    )
    text = on_a_terminal(status_table(report))
    assert text.count(LINK) == 4
    assert text.count("\\x1b[2J") == 4
    assert "\x1b" not in text


def test_a_job_and_what_it_printed_are_shown_as_they_are_written() -> None:
    odd = f"{LINK}{CLEAR}"
    message = f"failed with exit code 1:\n{odd}"
    job = Job(id=odd, state="FAILED", message=message, began=True, exit_code=1, submitted=0.0, metadata={})
    for seen in (Seen(report=None, job=job), Seen(report=None, job=None, problem=odd)):
        text = on_a_terminal(job_table(seen))
        assert text.count(LINK) == text.count("\\x1b[2J") == (2 if seen.job else 1)
        assert "\x1b" not in text


def test_measured_videos_are_called_as_their_files_are() -> None:
    measured = [Measured(video="x.mp4", id=f"[red]{CLEAR}", figures={}, picture=None)]
    text = on_a_terminal(tables(measured))
    assert "[red]\\x1b[2J" in text
    assert "\x1b" not in text


def test_commands_print_no_escape_sequence_of_a_file_or_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    write_beeps(tmp_path / f"{CLEAR}.wav", 1)
    (folder / "a.wav").symlink_to(tmp_path / f"{CLEAR}.wav")
    write_manifest(folder / "shots.jsonl", [{"prompt": "a", "audio": "a.wav"}])
    words = [sys.executable, "-m", "jobs.cli", "validate"]
    told = finish(start([*words, str(folder / "shots.jsonl")]), code=3)
    assert "which leads to" in told
    assert "\\x1b[2J.wav" in told
    assert "\x1b" not in told
    process = start([*words, str(folder / f"{CLEAR}.jsonl")])
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "\\x1b[2J.jsonl: no such file" in stderr
    assert "\x1b" not in stderr

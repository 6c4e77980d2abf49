"""Bad input costs itself only: each row of the corpus is rejected for its reason, good ones are rendered."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from bad_corpus import CORPUS, LINES, NUMBERS, write_corpus
from bad_files import FILES, GOOD_WITH_FILES
from bad_rows import GOOD, Bad
from runs import manifest_rows, render_here

from actors.progress import Summary
from jobs.validate import validate
from ltx_ray.config import RenderConfig
from ltx_ray.media.probe import probe_video
from ltx_ray.visible import visible


@dataclass(frozen=True)
class Rendered:
    """The corpus after its rendering."""

    manifest: Path
    out: Path
    summary: Summary
    rows: dict[int, dict[str, Any]]  # of the output manifest, by number


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """One run over the whole corpus."""
    folder = tmp_path_factory.mktemp("corpus") / "shots"
    manifest = write_corpus(folder)
    out = folder.parent / "out"
    before = files_of(folder)
    summary = render_here(manifest, out, "inputs.decode_seconds=30")
    assert files_of(folder) == before, "nothing is written beside the manifest"
    return Rendered(manifest, out, summary, {row["row"]: row for row in manifest_rows(out)})


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_the_corpus_is_large_and_no_case_is_twice_in_it() -> None:
    assert len(CORPUS) > 250
    assert len(NUMBERS) == len(CORPUS)
    assert len({case.line() for case in CORPUS}) == len(CORPUS)


def test_every_row_is_in_the_output_manifest_once(rendered: Rendered) -> None:
    found = manifest_rows(rendered.out)
    assert sorted(row["row"] for row in found) == list(range(1, len(LINES) + 1))
    assert len({row["id"].lower() for row in found}) == len(LINES)
    progress = rendered.summary.progress
    assert (progress.done, progress.rejected) == (len(LINES) - len(CORPUS), len(CORPUS))
    assert (progress.failed, progress.retries) == (0, 0)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_a_bad_row_is_rejected_for_its_own_reason(rendered: Rendered, case: Bad) -> None:
    number = NUMBERS[case.name]
    row = rendered.rows[number]
    assert row["status"] == "rejected"
    assert row["error"].startswith(f"row {number}: ")
    assert case.words in row["error"]
    assert visible(row["error"]) == row["error"], "one line, which steers no terminal"
    assert len(row["error"]) < 800
    assert all(name in row["error"] for name, value in case.values.items() if len(case.values) == 1 and value)
    assert (row["file_name"], row["sha256"], row["chunks"]) == (None, None, [])
    json.loads(row["input"])


@pytest.mark.parametrize("asked", [*GOOD, *GOOD_WITH_FILES], ids=lambda row: row["id"])
def test_a_good_row_is_rendered_and_kept_as_it_came(rendered: Rendered, asked: dict[str, Any]) -> None:
    row = next(row for row in rendered.rows.values() if row["id"] == asked["id"])
    assert (row["status"], row["error"]) == ("done", None)
    assert json.loads(row["input"]) == asked
    facts = probe_video(rendered.out / row["file_name"])
    assert (facts.num_frames, facts.width, facts.height) == (9, 64, 64)
    assert (facts.audio_seconds is not None) == ("audio" in asked)


def test_prompts_come_as_they_are_to_who_loads_the_videos(rendered: Rendered) -> None:
    table = pq.read_table(rendered.out / "videos/00000/metadata.parquet")
    prompts = dict(zip(table["id"].to_pylist(), table["prompt"].to_pylist(), strict=True))
    assert prompts == {row["id"]: row["prompt"] for row in (*GOOD, *GOOD_WITH_FILES)}
    card = (rendered.out / "videos/README.md").read_text()
    assert not any(row["prompt"] in card for row in GOOD)


def test_only_the_good_rows_leave_files(rendered: Rendered) -> None:
    videos = {path.name for path in (rendered.out / "videos").rglob("*.mp4")}
    assert videos == {f"{row['id']}-1.1.mp4" for row in (*GOOD, *GOOD_WITH_FILES)}
    assert [path for path in (rendered.out / "work").rglob("*") if path.is_file()] == []


def test_no_secret_is_written(rendered: Rendered) -> None:
    for path in rendered.out.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert b"me:word" not in data, path


def test_validate_says_the_same_of_all_that_it_can_tell(rendered: Rendered) -> None:
    found = validate(str(rendered.manifest), RenderConfig())
    assert found.rows == len(LINES)
    problems = {int(problem.split()[1].rstrip(":")): problem for problem in found.problems}
    assert sorted(problems) == sorted(NUMBERS[case.name] for case in CORPUS if case.validated)
    # Of a damaged picture it may tell another damage first: it reads checksums, not pixels.
    images = {NUMBERS[case.name] for case in CORPUS if "image" in case.values}
    same = [number for number in problems if number not in images]
    assert [problems[number] for number in same] == [rendered.rows[number]["error"] for number in same]


def test_the_same_command_finds_the_same(rendered: Rendered) -> None:
    again = render_here(rendered.manifest, rendered.out, "inputs.decode_seconds=30").progress
    # Files may have been mended: rows that were rejected for theirs are looked at again.
    assert again.skipped >= len(LINES) - len(FILES)
    assert (again.ended, again.failed, again.frames) == (len(LINES), 0, 0)
    found = {row["row"]: row for row in manifest_rows(rendered.out)}
    assert len(manifest_rows(rendered.out)) == len(LINES)
    for number, row in rendered.rows.items():
        assert all(found[number][name] == row[name] for name in ("id", "status", "error", "sha256")), number

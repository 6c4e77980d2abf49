"""Shards of a manifest, each a process of its own on one OUT: together they are the run that one would be."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from runs import (
    command,
    finish,
    manifest_rows,
    render_here,
    start,
    video_hashes,
    wait_until,
    write_manifest,
)

from jobs.control import request
from jobs.retry import retry
from jobs.status import report
from jobs.verify import verify
from jobs.writing import sole_writers
from ltx_ray.errors import RunBusyError, UserError
from ltx_ray.ledger.control import Request
from ltx_ray.ledger.lease import read_lease
from ltx_ray.ledger.ledger import read_records
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.shard import Shard
from ltx_ray.storage import Store
from ltx_ray.types import Stage

HERE = ("--address", "in-process", "--denoisers", "1")
FIRST, SECOND = Shard(1, 2).all
ROWS = [
    {"id": f"s{number}", "prompt": "a red circle moving right", "width": 64, "height": 64, "num_frames": 49}
    for number in range(7)
]
BAD = {"id": "odd", "prompt": "a red circle", "width": 63}
CHUNKS = 2  # of each
IDS = {shard: {row["id"] for row in ROWS if shard.has(str(row["id"]))} for shard in (FIRST, SECOND)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("manifest") / "shots.jsonl", [*ROWS, BAD])


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OUT of one run of all rows."""
    out = tmp_path_factory.mktemp("undisturbed")
    render_here(manifest, out)
    return out


def begun(manifest: Path, out: Path, shard: Shard | str) -> "subprocess.Popen[str]":
    return start(command(manifest, out, *HERE, "--shard", str(shard)))


def cli(*words: str) -> "subprocess.CompletedProcess[str]":
    process = start([sys.executable, "-m", "jobs.cli", *words])
    out, err = process.communicate(timeout=240)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def chunks(out: Path, shard: Shard) -> Counter[tuple[str, int]]:
    """How often each chunk of a shard was denoised and committed."""
    return Counter(
        (record.shot_id, record.key.index)
        for record in read_records(Store(str(out)), shard.name)
        if isinstance(record, ArtefactRecord) and record.key.stage is Stage.DENOISE
    )


def code(shard: Shard) -> int:
    """With which a shard's run ends."""
    return 3 if shard.has(str(BAD["id"])) else 0


def expected(shard: Shard, count: int = CHUNKS) -> Counter[tuple[str, int]]:
    return Counter({(name, index): 1 for name in IDS[shard] for index in range(count)})


def lasting(out: Path) -> list[dict[str, Any]]:
    """The rows of the output manifest, without what is of its moment or place."""
    passing = ("queued_at", "started_at", "finished_at", "stage_seconds", "chunks", "file_name", "node")
    rows = [{k: v for k, v in row.items() if k not in passing} for row in manifest_rows(out)]
    return sorted(rows, key=lambda row: str(row["id"]))


@pytest.fixture(scope="module")
def finished(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards that were rendered at once."""
    out = tmp_path_factory.mktemp("shards") / "out"
    runs = [begun(manifest, out, shard) for shard in (FIRST, SECOND)]
    for run, shard in zip(runs, (FIRST, SECOND), strict=True):
        finish(run, code(shard))
    return out


def test_two_shards_at_once_make_what_one_run_makes(finished: Path, undisturbed: Path) -> None:
    assert all(IDS.values()), "each has some"
    assert video_hashes(finished) == video_hashes(undisturbed)
    assert lasting(finished) == lasting(undisturbed)
    for shard in (FIRST, SECOND):
        assert chunks(finished, shard) == expected(shard)
        folder = finished / f"videos/{shard.name}-00000"
        assert (folder / "metadata.parquet").exists()
        assert {path.name.rsplit("-", 1)[0] for path in folder.glob("*.mp4")} == IDS[shard]
        assert list((finished / "manifest").glob(f"part-{shard.name}-*.parquet"))
    assert len(list((finished / "manifest").iterdir())) == 2, "each has compacted its own parts"
    assert (finished / "videos/README.md").read_text() == (undisturbed / "videos/README.md").read_text()
    assert [path for path in finished.rglob("*") if path.name.endswith((".part", ".tmp"))] == []
    assert [path for path in (finished / "work").rglob("*") if path.is_file()] == []
    assert verify(str(finished)).findings == ()


def test_status_adds_up_and_tells_each(finished: Path, undisturbed: Path) -> None:
    found, one = report(str(finished)), report(str(undisturbed))
    assert (found.total, found.ended) == (one.total, one.ended)
    assert found.driver is not None
    assert found.driver.state == "ended"
    assert [each.shard for each in found.shards] == ["1/2", "2/2"]
    assert [each.total for each in found.shards] == [
        sum(shard.has(str(row["id"])) for row in (*ROWS, BAD)) for shard in (FIRST, SECOND)
    ]
    assert found.progress is not None
    assert found.progress["stages"]["denoise"]["done"] == CHUNKS * len(ROWS)
    told = cli("status", str(finished))
    assert told.returncode == 0, told.stderr
    assert "shard 2/2" in told.stdout
    alone = json.loads(cli("status", str(finished), "--shard", "2/2", "--json").stdout)
    assert alone["total"] == found.shards[1].total
    assert json.loads(cli("status", str(finished), "--json").stdout)["shards"][0]["shard"] == "1/2"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--shard", "1/3"), "belongs to a run of 2 shards, but got --shard 1/3: give --shard i/2, or take"),
        ((), "belongs to a run of 2 shards, but no --shard was given: give --shard i/2"),
        (("--shard", "3/2"), "--shard must be i/n"),
    ],
)
def test_another_number_of_shards_is_refused(
    given: tuple[str, ...], told: str, manifest: Path, finished: Path
) -> None:
    before = sorted(finished.rglob("*"))
    run = start(command(manifest, finished, *HERE, *given))
    _, error = run.communicate(timeout=120)
    assert run.returncode == 2
    assert told in " ".join(error.split())
    assert sorted(finished.rglob("*")) == before


def test_what_was_begun_without_shards_is_not_divided_later(manifest: Path, undisturbed: Path) -> None:
    run = begun(manifest, undisturbed, "1/2")
    _, error = run.communicate(timeout=120)
    assert run.returncode == 2
    assert "belongs to a run without shards, but got --shard 1/2: leave --shard away" in error
    run_file = undisturbed / "run.json"
    written = json.loads(run_file.read_text())
    assert written.pop("shards") == 1
    run_file.write_text(json.dumps(written))  # as it was before there were shards
    finish(begun(manifest, undisturbed, "1/1"), 3)
    assert not (undisturbed / "ledger/0001").exists()


def test_verify_finds_what_is_wrong_in_any_shard_and_repair_mends_it(
    manifest: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for shard in (SECOND, FIRST):  # in any order, also one after the other
        render_here(manifest, out, shard=shard)
    files = {row["id"]: out / row["file_name"] for row in manifest_rows(out) if row["file_name"]}
    cut = [min(IDS[FIRST]), min(IDS[SECOND])]
    for name in cut:
        files[name].write_bytes(files[name].read_bytes()[:-100])
    stray = files[cut[1]].with_name("nobody-1.1.mp4")
    stray.write_bytes(b"nobody's")
    found = {(finding.problem, finding.id) for finding in verify(str(out)).findings}
    assert found == {("truncated", cut[0]), ("truncated", cut[1]), ("extra", None)}
    told = cli("verify", str(out), "--repair", "--json")
    assert told.returncode == 3, told.stderr  # for the row that was rejected
    progress = json.loads(told.stdout)["progress"]
    assert (progress["total"], progress["done"], progress["rejected"]) == (8, 7, 1)
    assert not stray.exists()
    assert verify(str(out)).findings == ()
    assert video_hashes(out) == video_hashes(undisturbed)
    generations = {row["id"]: row["generation"] for row in manifest_rows(out) if row["id"] != BAD["id"]}
    assert generations == {str(row["id"]): 1 + (row["id"] in cut) for row in ROWS}


def test_a_driver_that_is_killed_and_started_again_leaves_the_other_alone(tmp_path: Path) -> None:
    # Long enough that neither ends before it has heard of the pause.
    rows = [{**row, "width": 96, "height": 96, "num_frames": 97} for row in ROWS]
    manifest, out = write_manifest(tmp_path / "shots.jsonl", rows), tmp_path / "out"
    render_here(manifest, tmp_path / "undisturbed")
    runs = {shard: begun(manifest, out, shard) for shard in (FIRST, SECOND)}
    for shard, run in runs.items():
        wait_until(lambda s=shard: (out / "run.json").exists() and chunks(out, s), run)
    assert request(str(out), Request(verb="pause")) == []
    second = begun(manifest, out, SECOND)
    _, told = second.communicate(timeout=120)
    assert second.returncode == 4, told
    assert f"shard 2 of {out} must have one driver, but another one writes to it" in told
    states = [shard.driver.state for shard in report(str(out)).shards if shard.driver]
    assert states == ["paused", "paused"]

    runs[FIRST].kill()
    runs[FIRST].communicate()
    half = out / f"ledger/{FIRST.name}/.lease.json.a.part"
    of_another = out / f"ledger/{SECOND.name}/.lease.json.a.part"  # which the other one may be writing now
    for path in (half, of_another):
        path.write_text("{")
    found = report(str(out))
    assert [shard.driver.state for shard in found.shards if shard.driver] == ["gone", "paused"]
    assert found.driver is not None
    assert found.driver.state == "paused"
    with pytest.raises(UserError, match=r"nobody writes to shard 1/2 of "):
        request(str(out), Request(verb="cancel", shots=(min(IDS[FIRST]), min(IDS[SECOND]))))
    assert retry(str(out), lambda result: result.id in IDS[FIRST]) == []  # of a shard without a driver

    runs[FIRST] = begun(manifest, out, FIRST)
    wait_until(lambda: not half.exists(), runs[FIRST])
    assert of_another.exists()
    assert request(str(out), Request(verb="resume")) in ([], [FIRST])
    for shard, run in runs.items():
        finish(run)
        assert chunks(out, shard) == expected(shard, 4)
    assert video_hashes(out) == video_hashes(tmp_path / "undisturbed")
    epochs = {shard: lease.epoch for shard in runs if (lease := read_lease(Store(str(out)), shard.name))}
    assert epochs[SECOND] == 1
    assert epochs[FIRST] > 1


def test_what_is_asked_of_shots_goes_to_their_shards(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = {shard: begun(manifest, out, shard) for shard in (FIRST, SECOND)}
    for shard, run in runs.items():
        wait_until(lambda s=shard: (out / "run.json").exists() and read_lease(Store(str(out)), s.name), run)
    request(str(out), Request(verb="pause"))
    off = max(IDS[SECOND])
    request(str(out), Request(verb="cancel", shots=(off,)))
    lines = {shard: (out / f"ledger/{shard.name}").rglob("*.jsonl") for shard in runs}
    told = {shard: [path for path in lines[shard] if '"type":"cancel"' in path.read_text()] for shard in runs}
    assert [len(told[shard]) for shard in runs] == [0, 1]
    epochs = [len(list((out / f"ledger/{shard.name}").iterdir())) for shard in runs]
    with pytest.raises(RunBusyError, match="shard 1 of "), sole_writers(str(out), (FIRST, SECOND)):
        pytest.fail("both have a driver")
    assert [len(list((out / f"ledger/{shard.name}").iterdir())) for shard in runs] == epochs
    request(str(out), Request(verb="resume"))
    finish(runs[FIRST], code(FIRST))
    finish(runs[SECOND], 3)
    rows = {row["id"]: row["status"] for row in manifest_rows(out)}
    assert rows[off] == "cancelled"
    assert Counter(rows.values()) == {"done": 6, "cancelled": 1, "rejected": 1}
    told_again = cli("retry", str(out), "--cancelled")
    assert told_again.returncode == code(SECOND), told_again.stderr
    assert {row["id"]: row["status"] for row in manifest_rows(out)}[off] == "done"


def test_a_shard_may_have_no_row(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", ROWS[:1])
    own, other = (FIRST, SECOND) if FIRST.has(str(ROWS[0]["id"])) else (SECOND, FIRST)
    assert render_here(manifest, tmp_path / "out", shard=other).progress.total == 0
    assert render_here(manifest, tmp_path / "out", shard=own).progress.done == 1
    found = report(str(tmp_path / "out"))
    assert (found.total, found.ended["done"]) == (1, 1)
    assert [row["id"] for row in manifest_rows(tmp_path / "out")] == [ROWS[0]["id"]]

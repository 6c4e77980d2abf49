"""Half-written things are ignored and cleaned; what somebody can ask for again is kept."""

import asyncio
import os
from pathlib import Path

import pytest

from ltx_ray.ledger.history import History
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import ArtefactRecord, CancelRecord, Record, RetryRecord
from ltx_ray.ledger.sweep import strays, sweep_unfinished, sweep_videos, sweep_work
from ltx_ray.storage import Store
from ltx_ray.types import Artefact, ShotResult, Stage, Status, TaskKey


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.getfixturevalue("s3_out") if request.param == "s3" else str(tmp_path))


def chunk(shot: str, token: str = "1.1", index: int = 0) -> str:
    return f"work/0000/{shot}/chunk-{index:04d}-{token}.safetensors"


def artefact(shot: str, token: str = "1.1", index: int = 0) -> ArtefactRecord:
    return ArtefactRecord(
        shot_id=shot,
        generation=1,
        key=TaskKey(Stage.DENOISE, index),
        fingerprint="f",
        artefact=Artefact(name=chunk(shot, token, index), sha256="0" * 64, bytes=1),
        attempt=1,
        seconds=1.0,
        node="n",
        device="cpu",
        facts={},
    )


def result(shot: str, status: Status) -> ShotResult:
    return ShotResult(id=shot, generation=1, status=status, row=1, fingerprint="f", input="{}")


def replayed(store: Store, *records: Record) -> History:
    """What the next driver knows after ``records``."""
    ledger, _ = Ledger.open(store, inline=True)
    asyncio.run(ledger.commit(records))
    return Ledger.open(store, inline=True)[1]


def test_only_what_a_record_names_is_kept_of_unfinished_work(store: Store) -> None:
    for name in (chunk("a"), chunk("a", "1.2"), chunk("a", index=1), chunk("never")):
        store.write(name, b"x")
    history = replayed(store, artefact("a"))
    assert sweep_work(store, "0000", history, keep_ended=False) == 3
    assert store.list("work") == [chunk("a")]


@pytest.mark.parametrize("keep_ended", [False, True])
def test_work_of_ended_shots_is_kept_where_it_can_be_asked_for(store: Store, keep_ended: bool) -> None:
    ends = {"a": Status.DONE, "b": Status.FAILED, "c": Status.CANCELLED, "d": Status.REJECTED}
    for shot in ends:
        store.write(chunk(shot), b"x")
    history = replayed(store, *map(artefact, ends), *(result(*end) for end in ends.items()))
    sweep_work(store, "0000", history, keep_ended=keep_ended)
    kept = list(ends) if keep_ended else ["b"]
    assert store.list("work") == [chunk(shot) for shot in kept]


def test_files_that_were_being_written_are_removed(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.write(chunk("a"), b"x")
    for name in (".chunk-0001-1.1.safetensors.abc.part", ".b-1.1.mp4.abc.part"):
        store.local(f"work/0000/a/{name}").write_bytes(b"half")
    assert sweep_work(store, "0000", replayed(store, artefact("a")), keep_ended=True) == 2
    assert [path.name for path in (tmp_path / "work").rglob("*") if path.is_file()] == [Path(chunk("a")).name]


def test_videos_that_no_row_names_are_removed_and_nothing_else(store: Store) -> None:
    ours = ["videos/00000/a-1.1.mp4", "videos/00000/a-2.1.mp4", "videos/00000/b-1.3.mp4"]
    theirs = ["videos/00000/holiday.mp4", "videos/00000/metadata.parquet"]
    for name in (*ours, *theirs):
        store.write(name, b"x")
    assert strays(store, "00000", ours[1:]) == ours[:1]
    assert sweep_videos(store, "00000", ours[1:]) == 1
    assert store.list("videos") == sorted([*ours[1:], *theirs])


@pytest.mark.parametrize("resumes", [True, False])
def test_a_shot_that_is_wanted_anew_has_its_chunks_or_none(store: Store, resumes: bool) -> None:
    again = RetryRecord(shot_id="a", fingerprint="f", generation=1, resumes=resumes)
    failed = result("a", Status.FAILED)
    history = replayed(store, artefact("a"), artefact("a", index=1), failed, again, result("b", Status.DONE))
    known = history.known("a", "f")
    assert known is not None
    assert (known.status, known.generation, known.same) == (None, 1, True)
    assert history.status("b") is Status.DONE
    assert history.counts()[Status.FAILED] == 0
    keys = {TaskKey(Stage.DENOISE, index) for index in (0, 1)}
    assert history.artefacts == ({} if not resumes else history.artefacts)
    assert set(history.artefacts.get("a", {})) == (keys if resumes else set())


def test_a_retry_that_has_ended_is_over(store: Store) -> None:
    again = RetryRecord(shot_id="a", fingerprint="f", generation=1, resumes=True)
    history = replayed(store, artefact("a"), result("a", Status.FAILED), again, result("a", Status.DONE))
    assert history.status("a") is Status.DONE
    assert not history.artefacts


def test_a_retry_uses_no_chunks_that_were_spoiled_or_deleted(store: Store) -> None:
    anew, again = (RetryRecord(shot_id="a", fingerprint="f", generation=1, resumes=x) for x in (False, True))
    failed = result("a", Status.FAILED)
    second = artefact("a", "2.1", index=1)
    for before in ((result("a", Status.DONE), anew), (failed, anew)):
        history = replayed(store, artefact("a"), *before, second, failed, again)
        assert history.artefacts == {"a": {second.key: second}}


def test_called_off_shots_are_remembered_until_they_end(store: Store) -> None:
    history = replayed(store, CancelRecord(shots=("a", "b")), result("a", Status.CANCELLED))
    assert history.cancelled == {"b"}


def test_what_killed_drivers_had_half_written_is_gone_and_what_others_write_stays(tmp_path: Path) -> None:
    theirs = ["control/.pause.json.a.part", "work/0000/s1/.chunk.a.part", "videos/00000/.s1-1.1.mp4.a.part"]
    theirs += ["inputs/.beat.wav.a.part", "evaluation/.s1.png.a.part"]
    dead = ["ledger/0000/.lease.json.a.part", "logs/0000/.s1.log.a.part", ".command.json.a.part"]
    dead += ["manifest/.part-0.parquet.a.part", "videos/.README.md.a.part"]
    whole = ["ledger/0000/lease.json", "run.json"]
    for name in (*theirs, *dead, *whole):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{")
    assert sweep_unfinished(Store(str(tmp_path))) == len(dead)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*theirs, *whole}


def test_a_shard_sweeps_its_own_and_what_others_may_be_writing_stays(tmp_path: Path) -> None:
    own = ["ledger/0003/.lease.json.a.part", "ledger/0003/000001/.00000001.jsonl.a.part"]
    own += ["logs/0003/.s1.1.log.a.part", "manifest/.part-0003-000001.parquet.a.part"]
    own += ["metrics/.0003.000001.prom.a.part"]
    others = [name.replace("0003", "0004") for name in own]
    shared = [".run.json.a.part", "videos/.README.md.a.part"]
    abandoned = [name.replace(".a.", ".b.") for name in shared]
    for name in (*own, *others, *shared, *abandoned):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{")
    for name in abandoned:
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    assert sweep_unfinished(Store(str(tmp_path)), "0003") == len(own) + len(abandoned)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*others, *shared}

"""The ledger: what is committed is read again by whoever comes next, and nothing else is."""

import asyncio
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltx_ray.errors import RunBusyError, StorageError
from ltx_ray.ledger.history import History
from ltx_ray.ledger.ledger import Ledger, read_records
from ltx_ray.ledger.records import ArtefactRecord, EpochRecord, Record, decode, encode, is_result
from ltx_ray.storage import Store
from ltx_ray.types import Artefact, ChunkResult, Receipt, ShotResult, Stage, Status, TaskKey

# Surrogates too, as the names of files have them that are not UTF-8.
texts = st.text(st.characters() | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=20)
names = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True)
whole = st.integers(0, 2**53 - 1)
numbers = st.floats(0, 1e9, allow_nan=False).map(lambda value: round(value, 6))
keys = st.builds(TaskKey, st.sampled_from([s for s in Stage if s is not Stage.DECODE]), st.integers(0, 9999))
keys |= st.builds(TaskKey, st.just(Stage.DECODE), st.integers(0, 9999), st.integers(0, 999))
artefacts = st.builds(
    ArtefactRecord,
    shot_id=names,
    generation=st.integers(1, 99),
    key=keys,
    fingerprint=names,
    artefact=st.builds(Artefact, name=texts, sha256=names, bytes=whole),
    attempt=st.integers(1, 99),
    seconds=numbers,
    node=texts,
    device=texts,
    facts=st.dictionaries(names, st.none() | whole | texts, max_size=3),
)
results = st.builds(
    ShotResult,
    id=names,
    generation=st.integers(1, 99),
    status=st.sampled_from(Status),
    row=st.integers(1, 10**9),
    fingerprint=names,
    input=texts,
    error=st.none() | texts,
    bytes=st.none() | whole,
    fps=st.none() | numbers,
    chunks=st.lists(
        st.builds(ChunkResult, index=whole, start_frame=whole, num_frames=whole, seed=whole, seconds=numbers,
                  attempts=whole),
        max_size=2,
    ).map(tuple),
    stage_seconds=st.dictionaries(st.sampled_from([s.value for s in Stage]), numbers),
)  # fmt: skip
epochs = st.builds(
    EpochRecord,
    epoch=st.integers(1, 999),
    after=st.dictionaries(st.integers(1, 999), st.integers(0, 10**9), max_size=4),
    host=texts,
    pid=st.integers(0, 2**22),
    time=numbers,
)


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty OUT of each kind."""
    if request.param == "s3":
        yield Store(request.getfixturevalue("s3_out"))
    elif request.param == "memory":
        url = f"memory://{uuid.uuid4().hex}"
        yield Store(url)
        fsspec.filesystem("memory").rm(url, recursive=True)
    else:
        yield Store(str(tmp_path))


def opened(store: Store) -> tuple[Ledger, History]:
    """The next epoch."""
    return Ledger.open(store, inline=True)


def commit(ledger: Ledger, *records: ArtefactRecord | ShotResult) -> None:
    """All records in one file."""
    asyncio.run(ledger.commit(records))


def artefact(shot: str, index: int = 0, token: str = "1.1") -> ArtefactRecord:
    """A committed chunk."""
    return ArtefactRecord(
        shot_id=shot,
        generation=1,
        key=TaskKey(Stage.DENOISE, index),
        fingerprint="f",
        artefact=Artefact(name=f"work/0000/{shot}/chunk-{index:04d}-{token}", sha256="0", bytes=1),
        attempt=1,
        seconds=1.0,
        node="n",
        device="cpu",
        facts={},
    )


def result(
    shot: str, status: Status = Status.DONE, generation: int = 1, fingerprint: str = "f"
) -> ShotResult:
    """An ended shot."""
    return ShotResult(
        id=shot, generation=generation, status=status, row=1, fingerprint=fingerprint, input="{}"
    )


@given(record=artefacts | results | epochs)
def test_every_record_is_one_line_that_reads_back_as_it_was(record: Record) -> None:
    line = encode(record)
    assert len(line.splitlines()) == 1
    assert decode(line) == record
    assert is_result(line) == isinstance(record, ShotResult)


def test_a_record_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'banana'"):
        decode('{"type": "banana"}')


def test_a_receipt_becomes_the_record_that_commits_it() -> None:
    receipt = Receipt(
        shot_id="a",
        key=TaskKey(Stage.DENOISE, 3),
        attempt=2,
        seconds=1.5,
        cpu_seconds=1.0,
        peak_bytes=10,
        held_bytes=5,
        node="n",
        device="d",
        pid=1,
        artefact=Artefact(name="x", sha256="y", bytes=5),
        facts={"num_frames": 3},
    )
    record = ArtefactRecord.of(receipt, "finger", 4)
    assert (record.shot_id, record.key, record.attempt, record.generation) == ("a", receipt.key, 2, 4)
    assert (record.artefact, record.fingerprint, record.facts) == (
        receipt.artefact,
        "finger",
        {"num_frames": 3},
    )


def test_what_one_epoch_commits_the_next_one_knows(store: Store) -> None:
    ledger, history = opened(store)
    assert (ledger.epoch, len(history), history.known("a", "f")) == (1, 0, None)
    commit(ledger, artefact("a"), artefact("b", 0), artefact("b", 1))
    commit(ledger, result("a"))
    commit(ledger)
    again, history = opened(store)
    assert again.epoch == 2
    known = history.known("a", "f")
    assert known is not None
    assert (known.status, known.generation, known.same) == (Status.DONE, 1, True)
    assert history.known("b", "f") is None
    assert set(history.artefacts) == {"b"}, "a shot that has ended leaves no artefacts"
    assert history.artefacts["b"][TaskKey(Stage.DENOISE, 1)] == artefact("b", 1)
    assert [entry.id for entry in again.results()] == ["a"]


def test_records_come_in_the_order_in_which_they_were_written(store: Store) -> None:
    for epoch in range(3):
        ledger, _ = opened(store)
        for number in range(12):
            commit(ledger, result(f"{epoch}-{number:02d}"))
    ids = [record.id for record in read_records(store) if isinstance(record, ShotResult)]
    assert ids == [f"{epoch}-{number:02d}" for epoch in range(3) for number in range(12)]


def test_what_a_driver_writes_after_the_next_one_began_does_not_exist(store: Store) -> None:
    zombie, _ = opened(store)
    commit(zombie, artefact("before"))
    living, _ = opened(store)
    commit(zombie, result("late", Status.FAILED), artefact("late"))
    commit(living, result("b"))
    commit(zombie, result("later"))
    third, history = opened(store)
    assert history.known("late", "f") is None
    assert set(history.artefacts) == {"before"}
    commit(living, result("too late"))
    assert [entry.id for entry in third.results()] == ["b"]


def test_an_epoch_limits_all_that_came_before_it(store: Store) -> None:
    first, _ = opened(store)
    commit(first, result("a"))
    second, _ = opened(store)
    opened(store)
    for zombie in (first, second):
        commit(zombie, result(f"late-{zombie.epoch}"))
    fourth, _ = opened(store)
    assert [entry.id for entry in fourth.results()] == ["a"]


def test_two_drivers_that_begin_at_once_get_different_epochs_or_are_refused(tmp_path: Path) -> None:
    def begin(_: int) -> int | str:
        try:
            return opened(Store(str(tmp_path)))[0].epoch
        except RunBusyError as error:
            return str(error)

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(begin, range(16)))
    begun = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert begun
    assert sorted(begun) == list(range(1, len(begun) + 1))
    assert all("only one can write to it" in o for o in outcomes if isinstance(o, str))


def test_a_second_writer_in_the_same_epoch_is_refused(store: Store) -> None:
    ledger, _ = opened(store)
    other = Ledger(store, "0000", ledger.epoch, True)
    commit(ledger, result("a"))
    with pytest.raises(StorageError, match="another driver writes to this run"):
        commit(other, result("b"))
    assert [entry.id for entry in ledger.results()] == ["a"]


def test_shards_do_not_see_each_other(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    one, _ = Ledger.open(store, "0001", inline=True)
    commit(one, result("a"))
    two, history = Ledger.open(store, "0002", inline=True)
    assert (two.epoch, len(history)) == (1, 0)


def test_a_commit_outside_of_the_loops_thread_is_the_same(tmp_path: Path) -> None:
    ledger, _ = Ledger.open(Store(str(tmp_path)))
    commit(ledger, result("a"))
    assert [entry.id for entry in ledger.results()] == ["a"]


# -- ledgers that were damaged ---------------------------------------------------------------------------


def with_five_files(store: Store) -> Path:
    """The folder of an epoch with the results a, b, c, d in its files 1 to 4."""
    ledger, _ = opened(store)
    for shot in "abcd":
        commit(ledger, result(shot))
    return store.local("ledger/0000/000001")


@pytest.mark.parametrize(("lost", "left"), [(1, ""), (2, "a"), (3, "ab"), (4, "abc")])
def test_after_a_lost_file_nothing_of_its_epoch_counts(tmp_path: Path, lost: int, left: str) -> None:
    store = Store(str(tmp_path))
    (with_five_files(store) / f"{lost:08d}.jsonl").unlink()
    ledger, history = opened(store)
    assert ledger.epoch == 2
    assert "".join(entry.id for entry in ledger.results()) == left
    assert len(history) == len(left)
    commit(ledger, result("e"))
    assert "".join(entry.id for entry in opened(store)[0].results()) == left + "e"


def test_an_epoch_without_its_beginning_does_not_exist_and_is_not_begun_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    (with_five_files(store) / f"{0:08d}.jsonl").unlink()
    ledger, history = opened(store)
    assert (ledger.epoch, len(history)) == (2, 0)
    commit(ledger, result("e"))
    assert [entry.id for entry in ledger.results()] == ["e"]


def test_files_that_are_still_being_written_are_not_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    folder = with_five_files(store)
    (folder / ".00000005.jsonl.abc.part").write_bytes(b'{"type":"res')
    ledger, history = opened(store)
    assert len(history) == 4
    assert ledger.epoch == 2


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 70))
def test_the_files_of_an_epoch_are_counted_exactly(count: int) -> None:
    store = Store(f"memory://{uuid.uuid4().hex}")
    ledger, _ = opened(store)
    for number in range(count):
        commit(ledger, result(f"s{number}"))
    second, history = opened(store)
    assert len(history) == count
    first = next(record for record in read_records(store) if isinstance(record, EpochRecord))
    after = [r.after for r in read_records(store) if isinstance(r, EpochRecord) and r.epoch == second.epoch]
    assert first.epoch == 1
    assert after == [{1: count + 1}]
    fsspec.filesystem("memory").rm(store.url, recursive=True)


# -- history ---------------------------------------------------------------------------------------------


@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from("abcde"), st.sampled_from(Status), st.integers(1, 9), st.sampled_from("fg")
        ),
        max_size=30,
    )
)
def test_of_several_results_of_a_shot_the_last_one_counts(
    entries: list[tuple[str, Status, int, str]],
) -> None:
    history = History()
    last: dict[str, ShotResult] = {}
    for shot, status, generation, fingerprint in entries:
        last[shot] = result(shot, status, generation, fingerprint)
        history.add(last[shot])
    history.settled()
    assert len(history) == len(last)
    for shot in "abcde":
        known = history.known(shot, "f")
        if shot not in last:
            assert known is None
            continue
        assert known is not None
        assert (known.status, known.generation) == (last[shot].status, last[shot].generation)
        assert known.same == (last[shot].fingerprint == "f")
    for status in Status:
        assert history.counts()[status] == sum(entry.status is status for entry in last.values())


def test_an_artefact_that_comes_again_replaces_the_one_before_it() -> None:
    history = History()
    for token in ("1.1", "1.2"):
        history.add(artefact("a", 0, token))
    assert history.artefacts["a"][TaskKey(Stage.DENOISE, 0)].artefact.name.endswith("1.2")


def test_an_artefact_after_the_shots_end_belongs_to_its_next_generation() -> None:
    history = History()
    for record in (artefact("a", 0), result("a", Status.FAILED), artefact("a", 1)):
        history.add(record)
    assert list(history.artefacts["a"]) == [TaskKey(Stage.DENOISE, 1)]


def test_an_ended_shot_costs_less_than_64_bytes() -> None:
    history = History()
    count = 20_000
    for number in range(count):
        history.add(result(f"shot-{number}"))
    history.settled()
    held = [value for value in vars(history).values() if value is not None and not isinstance(value, int)]
    assert sum(map(sys.getsizeof, held)) / count < 64
    assert not history.artefacts

"""What is derived from the ledger: parts while a run goes on, and at its end one row for each shot."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.publisher import Publisher, current
from actors.simulated_pool import run_virtually
from ltx_ray.errors import LeaseLostError
from ltx_ray.types import ShotResult, Status


def result(number: int, status: Status = Status.DONE, generation: int = 1, folder: int = 0) -> ShotResult:
    """An ended shot whose video, if any, lies in that folder."""
    video = f"videos/{folder:05d}/s{number}-1.{generation}.mp4" if status is Status.DONE else None
    row = json.dumps({"id": f"s{number}", "prompt": "a tide"})
    return ShotResult(
        id=f"s{number}",
        generation=generation,
        status=status,
        row=number + 1,
        fingerprint="f",
        input=row,
        file_name=video,
    )


def ids(path: Path) -> list[str]:
    """The ids in a Parquet file."""
    found: list[str] = pq.read_table(path)["id"].to_pylist()
    return found


def parts(out: Path) -> list[list[str]]:
    """The ids in each part of the output manifest."""
    return [ids(path) for path in sorted((out / "manifest").glob("*.parquet"))]


def finish(out: Path, results: Sequence[ShotResult], *, complete: bool = True) -> None:
    """Tell a publisher of all results at once, then end the run."""

    async def main() -> None:
        publisher = Publisher(str(out), inline=True)
        for entry in results:
            await publisher.add(entry)
        await publisher.finish(lambda: iter(results), complete=complete)

    run_virtually(main())


def test_a_shot_is_in_the_output_manifest_half_a_minute_after_its_end(tmp_path: Path) -> None:
    async def main() -> None:
        publisher = Publisher(str(tmp_path), inline=True)
        await publisher.add(result(0))
        await asyncio.sleep(29)
        await publisher.add(result(1))
        assert parts(tmp_path) == []
        await asyncio.sleep(1)
        await publisher.add(result(2))
        assert parts(tmp_path) == [["s0", "s1", "s2"]]

    run_virtually(main())


def test_a_thousand_shots_make_a_part(tmp_path: Path) -> None:
    finish(tmp_path, [result(number) for number in range(2500)], complete=False)
    assert [len(part) for part in parts(tmp_path)] == [1000, 1000, 500]


def test_a_run_that_was_interrupted_is_not_compacted_and_its_parts_are_kept(tmp_path: Path) -> None:
    finish(tmp_path, [result(0)], complete=False)
    finish(tmp_path, [result(1)], complete=False)
    assert parts(tmp_path) == [["s0"], ["s1"]]
    assert not (tmp_path / "videos").exists()


def test_at_the_end_each_shot_has_one_row_its_last(tmp_path: Path) -> None:
    entries = [result(0, Status.REJECTED), result(1), result(0, generation=2)]
    finish(tmp_path, entries)
    rows = pq.read_table(tmp_path / "manifest").to_pylist()
    assert sorted((row["id"], row["status"], row["generation"]) for row in rows) == [
        ("s0", "done", 2),
        ("s1", "done", 1),
    ]


def test_each_folder_of_videos_is_described_once_with_all_of_its_videos(tmp_path: Path) -> None:
    # Shots end in another order than that in which they were admitted.
    entries = [result(number, folder=number % 3) for number in range(30)]
    entries += [result(30, Status.FAILED), result(0, generation=2, folder=2)]
    finish(tmp_path, entries)
    for folder in range(3):
        wanted = {f"s{n}" for n in range(1, 30) if n % 3 == folder} | ({"s0"} if folder == 2 else set())
        found = ids(tmp_path / "videos" / f"{folder:05d}" / "metadata.parquet")
        assert sorted(found) == sorted(wanted)


@given(entries=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=30))
def test_of_each_shot_the_last_result_is_current(entries: list[tuple[int, int]]) -> None:
    results = [result(number, generation=generation) for number, generation in entries]

    def stream() -> Iterator[ShotResult]:
        yield from results

    assert {entry.id: entry for entry in current(stream)} == {entry.id: entry for entry in results}
    assert len(list(current(stream))) == len({entry.id for entry in results})


def test_a_shots_last_video_stays_until_a_later_one_takes_its_place(tmp_path: Path) -> None:
    def put(number: int, generation: int) -> Path:
        path = tmp_path / str(result(number, generation=generation).file_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        return path

    first, other, stray = put(0, 1), put(1, 1), put(7, 1)
    results = [result(0), result(1), result(0, Status.REJECTED, 2), result(1, Status.CANCELLED, 2), result(2)]
    finish(tmp_path, results, complete=False)
    assert first.exists()
    assert stray.exists()
    finish(tmp_path, results)
    assert first.exists(), "a later attempt that came to nothing costs no finished video"
    assert other.exists()
    assert not stray.exists()
    second = put(0, 3)
    finish(tmp_path, [*results, result(0, generation=3)])
    assert second.exists()
    assert not first.exists()


def test_nothing_is_deleted_that_may_not_be(tmp_path: Path) -> None:
    stray = tmp_path / "videos/00000/s7-1.1.mp4"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"x")

    def refuse() -> None:
        raise LeaseLostError("another driver took over")

    async def main() -> None:
        publisher = Publisher(str(tmp_path), inline=True)
        with pytest.raises(LeaseLostError):
            await publisher.finish(lambda: iter([result(0)]), complete=True, may_delete=refuse)

    run_virtually(main())
    assert stray.exists()

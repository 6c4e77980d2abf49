"""The coordinator over simulated pools in virtual time: order, one end for each row, and no remains."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from simulated_farm import (
    CONFIG,
    Cut,
    FragileFileSystem,
    Odds,
    PowerLossError,
    Row,
    World,
    fresh_url,
    output_rows,
    render_once,
    write_manifest,
)

from actors.pool import PoolBrokenError
from actors.progress import Summary
from ltx_ray.errors import StorageError
from ltx_ray.run import RunSpec
from ltx_ray.types import ShotResult, Stage, Status, TaskKey

NO_ODDS = Odds()
ONE_EACH = dict.fromkeys(Stage, 1)
CUT_OFF = (PowerLossError, asyncio.CancelledError, StorageError, PoolBrokenError)


@pytest.fixture(scope="session")
def spec() -> RunSpec:
    """A decided run; its OUT and config are replaced by each test."""
    return RunSpec.decide(CONFIG, "fragile://out", "cpu")


@pytest.fixture(autouse=True)
def _empty_store() -> Iterator[None]:
    yield
    FragileFileSystem.store.clear()
    FragileFileSystem.pseudo_dirs[:] = [""]


rows = st.lists(
    st.builds(
        Row,
        chunks=st.sampled_from([1, 2, 3, 5, 8, 12, 0]),
        size=st.sampled_from([64, 96, 160]),
        priority=st.sampled_from([0, 0, 5]),
    ),
    min_size=1,
    max_size=6,
)
sizes = st.fixed_dictionaries({stage: st.integers(1, 3) for stage in Stage})
rare = st.sampled_from([0.0, 0.0, 0.02, 0.1])
often = st.sampled_from([0.0, 0.05, 0.15])
odds = st.builds(
    Odds,
    loss=often,
    launch_loss=rare,
    failure=often,
    storage=rare,
    fatal=st.sampled_from([0.0, 0.0, 0.01]),
    rejected=st.sampled_from([0.0, 0.0, 0.01]),
    payload_loss=often,
    file_loss=rare,
    slowest=st.sampled_from([0.0, 1.0, 10.0]),
)
cuts = st.lists(
    st.builds(Cut, kind=st.sampled_from(["stop", "cancel", "power", "disk"]), after=st.integers(1, 120)),
    max_size=3,
)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
@given(
    rows=rows,
    sizes=sizes,
    odds=odds,
    cuts=cuts,
    seed=st.integers(0, 2**32),
    max_active=st.integers(1, 4),
    start_seconds=st.sampled_from([0.0, 5.0]),
)
def test_never_out_of_order_each_row_ends_once_and_nothing_is_left_whatever_fails(
    spec: RunSpec,
    tmp_path: Path,
    rows: list[Row],
    sizes: dict[Stage, int],
    odds: Odds,
    cuts: list[Cut],
    seed: int,
    max_active: int,
    start_seconds: float,
) -> None:
    manifest = tmp_path / "shots.jsonl"
    write_manifest(manifest, rows)
    world = World(replace(spec, out=fresh_url()), odds, seed, start_seconds)
    summary = render_to_the_end(world, str(manifest), sizes, max_active, cuts)
    check_every_row_ended_once(world, rows, summary)


def render_to_the_end(
    world: World, manifest: str, sizes: dict[Stage, int], max_active: int, cuts: list[Cut]
) -> Summary:
    """Call the command again and again, as a person would, until it says that it is done."""
    for number in range(len(cuts) + 20):
        try:
            summary = render_once(
                world, manifest, sizes, max_active, cuts[number] if number < len(cuts) else None
            )
        except CUT_OFF:
            if number > len(cuts) + 10:  # the store and the launches fail by chance too: now they are mended
                world.odds = NO_ODDS
        else:
            if not summary.interrupted:
                return summary
    raise AssertionError("the run never ends")


def check_every_row_ended_once(world: World, rows: list[Row], summary: Summary) -> None:
    """The ledger, the output manifest and the summary agree, and each end has its reason."""
    ids = {f"s{number}" for number in range(len(rows))}
    assert set(world.results) == ids
    for number, row in enumerate(rows):
        check_end(world, row, world.results[f"s{number}"])
    current = {shot: results[-1] for shot, results in world.results.items()}
    written = output_rows(world.spec.out)
    assert sorted(row["id"] for row in written) == sorted(ids)
    for row in written:
        result = current[row["id"]]
        assert (row["status"], row["generation"]) == (result.status.value, result.generation)
        assert row["file_name"] == result.file_name
        assert len(row["chunks"]) == len(result.chunks)
    counts = [summary.progress.done, summary.progress.failed, summary.progress.rejected]
    statuses = [result.status for result in current.values()]
    if Status.FAILED not in statuses:
        assert not world.store.list("work")
    assert counts == [statuses.count(s) for s in (Status.DONE, Status.FAILED, Status.REJECTED)]


def check_end(world: World, row: Row, results: list[ShotResult]) -> None:
    """One row: its results follow one another, and the last is right."""
    last, shot = results[-1], results[-1].id
    seen = world.ends.get(shot, set())
    assert [result.generation for result in results] == list(range(1, len(results) + 1))
    # Only what the user may have mended meanwhile is tried again by the next call.
    assert all(result.status is Status.REJECTED for result in results[:-1])
    if not row.chunks:
        assert last.status is Status.REJECTED
        assert len(results) == 1
        return
    if last.status is Status.DONE:
        finish = world.committed[shot, TaskKey(Stage.FINISH)]
        assert last.file_name == finish.artefact.name
        assert world.store.size(finish.artefact.name) is not None
        assert [chunk.index for chunk in last.chunks] == list(range(row.chunks))
        assert sum(chunk.num_frames for chunk in last.chunks) == last.num_frames
    elif last.status is Status.FAILED:
        assert seen & {"fatal", "failure", "lost", "input_lost"}
        assert last.error
    else:
        assert last.status is Status.REJECTED
        assert "rejected" in seen

"""The coordinator over simulated pools in virtual time: order, one end for each row, and no remains."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from fragile_store import FragileFileSystem, PowerLossError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from simulated_farm import Rows, Through, fresh_url, output_rows, render_once, write_manifest
from simulated_world import CONFIG, Cut, Odds, Row, World

from actors.progress import Summary
from actors.simulated_pool import Fate
from actors.worker import PoolBrokenError
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ManifestError, StorageError
from ltx_ray.ledger.ledger import read_records
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.run import RunSpec
from ltx_ray.types import Job, ShotResult, Stage, Status, TaskKey

pytestmark = pytest.mark.usefixtures("_empty_store")
NO_ODDS = Odds()
CUT_OFF = (PowerLossError, asyncio.CancelledError, StorageError, PoolBrokenError)


@pytest.fixture(scope="session")
def spec() -> RunSpec:
    """A decided run; its OUT and config are replaced by each test."""
    return RunSpec.decide(CONFIG, "fragile://out", "cpu")


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
    memory=rare,
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
    max_examples=150,
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
    places=st.sampled_from([("",), ("a", "b"), ("a", "b", "c")]),
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
    places: tuple[str, ...],
) -> None:
    FragileFileSystem.empty()
    manifest = tmp_path / "shots.jsonl"
    write_manifest(manifest, rows)
    world = World(replace(spec, out=fresh_url()), odds, seed, start_seconds, places)
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
        assert seen & {"fatal", "failure", "memory", "lost", "input_lost"}
        assert last.error
    else:
        assert last.status is Status.REJECTED
        assert "rejected" in seen


# -- what the property test meets by chance, one by one --------------------------------------------------


@pytest.fixture
def farm(spec: RunSpec, tmp_path: Path) -> Callable[..., "Farm"]:
    """Makes a farm with a manifest of the rows."""

    def make(rows: list[Row], odds: Odds = NO_ODDS, config: RenderConfig = CONFIG) -> Farm:
        FragileFileSystem.empty()
        manifest = tmp_path / "shots.jsonl"
        write_manifest(manifest, rows)
        return Farm(World(replace(spec, out=fresh_url(), config=config), odds, seed=1), manifest)

    return make


@dataclass
class Farm:
    """A world, and the manifest that is rendered in it."""

    world: World
    manifest: Path

    def call(
        self, cut: Cut | None = None, most: int = 1, active: int = 4, through: Through = iter
    ) -> Summary:
        """One call of the command with so many workers of each stage."""
        return render_once(self.world, str(self.manifest), dict.fromkeys(Stage, most), active, cut, through)

    def began(self, stage: Stage) -> list[tuple[str, int]]:
        """Shot and index of the tasks of ``stage`` that this call began, in order."""
        return [(shot, key.index) for _, shot, key in self.world.log if key.stage is stage]

    def statuses(self) -> list[tuple[str, str, int]]:
        """Id, status and generation of every row of the output manifest, sorted."""
        rows = output_rows(self.world.spec.out)
        return sorted((row["id"], row["status"], row["generation"]) for row in rows)


MakeFarm = Callable[..., Farm]


def test_a_power_cut_at_any_change_of_the_store_costs_nothing_that_was_committed(farm: MakeFarm) -> None:
    rows = [Row(2), Row(0), Row(1)]
    for after in range(100):
        one = farm(rows)
        try:
            summary = one.call(Cut("power", after))
        except PowerLossError:
            summary = one.call()
        else:
            assert after > 20, "the cut came"
            break
        check_every_row_ended_once(one.world, rows, summary)
    else:
        raise AssertionError("there is no end of changes")


@pytest.mark.parametrize("size", [96, 160])
def test_a_run_cut_off_at_any_task_goes_on_with_room_for_one_slab(farm: MakeFarm, size: int) -> None:
    rows = [Row(3, size), Row(1, size)]
    for after in range(1, 60):
        one = farm(rows)
        try:
            summary = one.call(Cut("cancel", after))
            assert after > 20
            break
        except asyncio.CancelledError:
            summary = one.call()
        check_every_row_ended_once(one.world, rows, summary)


def test_ctrl_c_hands_nothing_more_out_and_the_next_call_goes_on(farm: MakeFarm) -> None:
    one = farm([Row(5), Row(5)])
    summary = one.call(Cut("stop", 6))
    assert summary.interrupted
    assert one.world.calls == 6
    denoised = set(one.began(Stage.DENOISE))
    assert one.world.store.list("work/0000")
    assert not one.call().interrupted
    again = denoised & set(one.began(Stage.DENOISE))
    assert len(again) <= 1, "only what was running is begun again"
    assert one.statuses() == [("s0", "done", 1), ("s1", "done", 1)]


def test_a_second_call_finds_nothing_to_do(farm: MakeFarm) -> None:
    one = farm([Row(1), Row(0), Row(2)])
    first = one.call()
    second = one.call()
    assert one.world.calls == 0
    assert one.statuses() == [("s0", "done", 1), ("s1", "rejected", 1), ("s2", "done", 1)]
    assert (second.progress.done, second.progress.rejected, second.progress.skipped) == (2, 1, 3)
    assert (first.progress.done, first.progress.skipped) == (2, 0)


def test_a_failed_shot_is_left_alone_by_the_next_call(farm: MakeFarm) -> None:
    one = farm([Row(1), Row(1)], Odds(fatal=1.0))
    summary = one.call()
    assert summary.progress.failed == 2
    assert [shot for shot, _ in summary.failures] == ["s0", "s1"]
    one.world.odds = NO_ODDS
    assert one.call().progress.failed == 2
    assert one.world.calls == 0


def test_a_row_whose_content_changed_is_rendered_anew_and_supersedes(farm: MakeFarm) -> None:
    one = farm([Row(1), Row(1)])
    one.call()
    write_manifest(one.manifest, [Row(1), Row(2), Row(1)])
    one.world.results.clear()
    one.world.committed.clear()
    one.call()
    assert {shot for shot, _ in one.began(Stage.DENOISE)} == {"s1", "s2"}
    assert one.statuses() == [("s0", "done", 1), ("s1", "done", 2), ("s2", "done", 1)]


def test_a_row_that_was_rejected_and_is_mended_is_rendered(farm: MakeFarm) -> None:
    one = farm([Row(0)])
    one.call()
    write_manifest(one.manifest, [Row(1)])
    one.call()
    assert one.statuses() == [("s0", "done", 2)]


def test_a_shot_that_cannot_be_planned_is_rejected_once(farm: MakeFarm) -> None:
    decoding = CONFIG.decoding.model_copy(update={"tile_bytes": 2**20, "tile_size": None, "halo": 8})
    one = farm([Row(1, 256), Row(0)], config=CONFIG.model_copy(update={"decoding": decoding}))
    for skipped in (0, 2):
        summary = one.call()
        assert (summary.progress.rejected, summary.progress.skipped) == (2, skipped)
        assert one.statuses() == [("s0", "rejected", 1), ("s1", "rejected", 1)]
    assert "tile_bytes" in output_rows(one.world.spec.out)[0]["error"]


def test_work_of_rows_beyond_the_limit_is_kept(farm: MakeFarm) -> None:
    one = farm([Row(1), Row(5)])
    with pytest.raises(asyncio.CancelledError):
        one.call(Cut("cancel", 12))
    recorded = {
        each.artefact.name for each in read_records(one.world.store) if isinstance(each, ArtefactRecord)
    }
    chunks = [name for name in one.world.store.list("work") if "/s1/chunk" in name and name in recorded]
    assert chunks
    one.call(through=lambda rows: islice(rows, 1))
    assert set(chunks) <= set(one.world.store.list("work"))
    one.call()
    assert not set(range(len(chunks))) & {i for s, i in one.began(Stage.DENOISE) if s == "s1"}


def test_a_manifest_that_breaks_in_mid_run_loses_nothing(farm: MakeFarm) -> None:
    def breaking(rows: Rows) -> Rows:
        yield next(rows)
        yield next(rows)
        raise ManifestError("row 3 changed while it was read; start again")

    one = farm([Row(1), Row(8), Row(1)])
    with pytest.raises(ManifestError, match="start again"):
        one.call(active=2, through=breaking)
    chunks = [name for name in one.world.store.list("work") if "/s1/chunk" in name]
    assert chunks
    assert one.statuses() == [("s0", "done", 1)]
    one.call()
    assert one.statuses() == [("s0", "done", 1), ("s1", "done", 1), ("s2", "done", 1)]


def test_workers_that_cannot_be_made_end_the_run_and_nothing_is_lost(farm: MakeFarm) -> None:
    one = farm([Row(2)], Odds(launch_loss=1.0))
    with pytest.raises(PoolBrokenError, match="no worker for stage"):
        one.call()
    one.world.odds = NO_ODDS
    assert one.call().progress.done == 1


def test_storage_that_goes_on_failing_ends_the_run_and_fails_no_shot(farm: MakeFarm) -> None:
    one = farm([Row(2), Row(1)], Odds(storage=1.0))
    with pytest.raises(StorageError):
        one.call()
    assert not one.world.results
    one.world.odds = NO_ODDS
    assert one.call().progress.done == 2


def test_a_shot_that_fails_takes_its_waiting_tasks_with_it(farm: MakeFarm) -> None:
    class OneBadTile(World):
        def fate(self, job: Job, inputs: Sequence[Any], node: str) -> Fate:
            if job.task.key == TaskKey(Stage.DECODE, 0, 0) and job.shot.id == "s0":
                return self._failed(job, 0.0, "fatal")
            return Fate(seconds=1.0)

    one = farm([Row(1, 512), Row(1)])
    one.world = OneBadTile(one.world.spec, NO_ODDS, seed=1)
    one.call()
    assert one.statuses() == [("s0", "failed", 1), ("s1", "done", 1)]
    assert len([1 for shot, _ in one.began(Stage.DECODE) if shot == "s0"]) <= 2


def test_tasks_of_a_shot_that_fail_at_the_same_moment_end_it_once(farm: MakeFarm) -> None:
    class AllTilesBad(World):
        def fate(self, job: Job, inputs: Sequence[Any], node: str) -> Fate:
            is_tile = job.task.key.stage is Stage.DECODE
            return self._failed(job, 1.0, "fatal") if is_tile else Fate(seconds=1.0)

    one = farm([Row(1, 512), Row(1, 512)])
    one.world = AllTilesBad(one.world.spec, NO_ODDS, seed=1)
    assert one.call(most=3).progress.failed == 2
    assert [len(results) for results in one.world.results.values()] == [1, 1]
    assert one.world.peak_running[Stage.DECODE] == 3


def test_the_first_slab_is_decoded_while_later_chunks_are_denoised(farm: MakeFarm) -> None:
    one = farm([Row(8)])
    one.call()
    stages = [key.stage for _, _, key in one.world.log]
    last_chunk = len(stages) - 1 - stages[::-1].index(Stage.DENOISE)
    assert stages.index(Stage.DECODE) < last_chunk
    assert stages.index(Stage.ASSEMBLE) < last_chunk


def test_shots_are_denoised_side_by_side_and_each_in_order(farm: MakeFarm) -> None:
    one = farm([Row(5)] * 3)
    one.call(most=3)
    assert one.world.peak_running[Stage.DENOISE] > 1
    began = one.began(Stage.DENOISE)
    for shot in ("s0", "s1", "s2"):
        assert [index for name, index in began if name == shot] == list(range(5))


def test_no_more_shots_are_active_than_allowed(farm: MakeFarm) -> None:
    one = farm([Row(1)] * 12)
    one.call(most=3, active=2)
    assert one.world.peak_active == 2
    assert one.call().progress.done == 12


def test_shots_go_in_the_manifests_order(farm: MakeFarm) -> None:
    one = farm([Row(1)] * 6)
    one.call(active=6)
    assert [shot for shot, _ in one.began(Stage.DENOISE)] == [f"s{number}" for number in range(6)]


def test_a_chain_longer_than_a_fair_share_goes_first(farm: MakeFarm) -> None:
    one = farm([Row(1)] * 6 + [Row(12)])
    one.call(most=2, active=7)
    # Until then the workers have what was ready first.
    assert "s6" in {shot for shot, _ in one.began(Stage.DENOISE)[:3]}
    times = {shot: time for time, shot, key in one.world.log if key.stage is Stage.FINISH}
    assert max(times.values()) - times["s6"] <= one.world.odds.slowest, "no worker waits at the end"


def test_a_chain_becomes_long_when_little_else_is_left(farm: MakeFarm) -> None:
    one = farm([Row(1)] * 20 + [Row(5)])  # at the start a tenth of the work of two workers
    one.call(most=2, active=21)
    began = [shot for shot, _ in one.began(Stage.DENOISE)]
    assert began.index("s0") < began.index("s20"), "it waits as long as it may"
    times = {shot: time for time, shot, key in one.world.log if key.stage is Stage.FINISH}
    assert max(times.values()) - times["s20"] <= one.world.odds.slowest, "no worker waits for it at the end"


def test_a_rows_priority_goes_before_everything(farm: MakeFarm) -> None:
    one = farm([Row(1)] * 4 + [Row(1, priority=5)])
    one.call(active=5)
    assert one.began(Stage.CONDITION)[0] == ("s4", 0)


def test_progress_tells_what_is_done_and_what_is_running(farm: MakeFarm) -> None:
    one = farm([Row(2), Row(0), Row(2)])
    assert one.call(Cut("stop", 14)).interrupted
    coordinator = one.world.coordinator
    assert coordinator is not None
    summary = one.call()
    progress = summary.progress
    assert (progress.total, progress.done, progress.rejected, progress.failed) == (3, 2, 1, 0)
    assert (progress.running, progress.decoded_bytes) == (0, 0)
    assert progress.stages["finish"].done >= 1
    assert set(summary.cpu_seconds) == {stage.value for stage in Stage}

"""Decoded bytes in flight stay within their budget, and waiting for room never ends in waiting for ever."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from planned import settings_of, shot_of

from actors.admission import DecodeQueue, decoded_bytes
from actors.shot_run import ShotRun
from actors.work import Done
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.planning.plan import plan_shot
from ltx_ray.types import Artefact, Receipt, Slab, Stage, Task, TaskKey


def run_of(name: str, size: int = 96) -> ShotRun:
    """An active shot of six slabs of one size, and a last one."""
    settings = settings_of(33, 16, slab_frames=16, tile_size=96, halo=0, temporal_halo=1, ramp=32)
    plan = plan_shot(shot_of(97, size, 64, id=name), settings)
    return ShotRun(
        plan, {}, sequence=0, generation=1, epoch=1, folder="00000", work=f"work/0000/{name}", cost=1.0
    )


def tiles(active: ShotRun, slab: int) -> list[Task]:
    """The decode tasks of a slab."""
    return [t for t in active.plan.tasks if t.key.stage is Stage.DECODE and t.key.index == slab]


def hold(queue: DecodeQueue, active: ShotRun, slab: int, priority: float = 0.0) -> list[Task]:
    """Let all tiles of a slab wait."""
    found = tiles(active, slab)
    for task in found:
        queue.hold((priority, slab, task.key.tile), active, task)
    return found


def admitted(queue: DecodeQueue) -> list[tuple[str, int, int]]:
    """What is let through now: shot, slab, tile."""
    return [(a.shot.id, task.key.index, task.key.tile) for _, a, task in queue.admit()]


def encode(active: ShotRun, slab: int) -> None:
    """The slab's segment is committed."""
    key = TaskKey(Stage.ASSEMBLE, slab)
    artefact = Artefact(name=f"segment-{slab}", sha256="0", bytes=1)
    values: dict[str, Any] = {"attempt": 1, "seconds": 1.0, "node": "n", "device": "d"}
    receipt = Receipt(
        shot_id=active.shot.id,
        key=key,
        cpu_seconds=1.0,
        peak_bytes=1,
        held_bytes=1,
        pid=1,
        artefact=artefact,
        **values,
    )
    active.complete(receipt, Done(outcome=receipt), ArtefactRecord.of(receipt, "f", 1))


def bytes_of(active: ShotRun, slab: int) -> int:
    """Decoded bytes of a slab."""
    return decoded_bytes(active.plan.slabs[slab])


def test_the_bytes_of_a_slab_are_those_of_all_its_tiles() -> None:
    active = run_of("a")
    for slab in active.plan.slabs:
        assert decoded_bytes(slab) == sum(task.made_bytes for task in tiles(active, slab.index))


def test_slabs_are_admitted_while_there_is_room_and_the_rest_when_one_is_encoded() -> None:
    active = run_of("a")
    queue = DecodeQueue(bytes_of(active, 1) + bytes_of(active, 2))
    for slab in range(3):
        hold(queue, active, slab)
    assert {slab for _, slab, _ in admitted(queue)} == {0, 1}
    assert admitted(queue) == []
    assert len(queue) == len(tiles(active, 2))
    encode(active, 0)
    queue.release("a", 0)
    assert {slab for _, slab, _ in admitted(queue)} == {2}
    assert queue.in_flight == bytes_of(active, 1) + bytes_of(active, 2)
    assert len(queue) == 0


def test_a_slab_is_admitted_as_a_whole() -> None:
    active = run_of("a", 224)
    assert len(tiles(active, 0)) > 1
    queue = DecodeQueue(bytes_of(active, 0))
    hold(queue, active, 0)
    assert len(admitted(queue)) == len(tiles(active, 0))


def test_lower_priority_goes_first() -> None:
    one, two = run_of("one"), run_of("two")
    queue = DecodeQueue(2 * bytes_of(one, 0))
    hold(queue, one, 0, priority=5.0)
    hold(queue, two, 0, priority=1.0)
    assert [shot for shot, _, tile in admitted(queue) if tile == 0] == ["two", "one"]


def test_a_slab_larger_than_the_budget_is_admitted_alone() -> None:
    small, large = run_of("small"), run_of("large", 512)
    queue = DecodeQueue(bytes_of(small, 0))
    hold(queue, small, 0, priority=0.0)
    hold(queue, large, 0, priority=1.0)
    assert {shot for shot, _, _ in admitted(queue)} == {"small"}
    queue.release("small", 0)
    assert {shot for shot, _, _ in admitted(queue)} == {"large"}
    hold(queue, small, 0)
    assert admitted(queue) == []


def test_a_small_slab_does_not_overtake_a_large_one() -> None:
    small, large = run_of("small"), run_of("large", 512)
    queue = DecodeQueue(bytes_of(large, 0))
    hold(queue, small, 0)
    assert admitted(queue)
    hold(queue, large, 0, priority=1.0)
    other = run_of("other")
    hold(queue, other, 0, priority=2.0)
    assert admitted(queue) == [], "there is room for the other one, but then never for the large one"


def test_a_tile_that_is_decoded_again_does_not_wait_behind_a_slab_without_room() -> None:
    first, second = run_of("first"), run_of("second")
    queue = DecodeQueue(bytes_of(first, 0))
    hold(queue, second, 0, priority=9.0)
    assert admitted(queue)
    hold(queue, first, 0, priority=0.0)
    queue.hold((9.0, 0.0, 0.0), second, tiles(second, 0)[0])
    assert admitted(queue) == [("second", 0, 0)]


def test_tiles_that_only_give_their_tail_once_more_need_no_room() -> None:
    active = run_of("a")
    encode(active, 0)
    queue = DecodeQueue(bytes_of(active, 1))
    hold(queue, active, 0)
    hold(queue, active, 1)
    assert {slab for _, slab, _ in admitted(queue)} == {0, 1}
    assert queue.in_flight == bytes_of(active, 1)


def test_a_slab_waits_for_the_one_before_it() -> None:
    active, other = run_of("a"), run_of("other")
    queue = DecodeQueue(2 * bytes_of(active, 0))
    hold(queue, active, 1, priority=0.0)
    hold(queue, other, 0, priority=1.0)
    assert {shot for shot, _, _ in admitted(queue)} == {"other"}, "and lets others pass meanwhile"
    hold(queue, active, 0, priority=0.0)
    assert {(shot, slab) for shot, slab, _ in admitted(queue)} == {("a", 0)}


def test_a_shot_that_is_over_leaves_nothing() -> None:
    active, other = run_of("a"), run_of("other")
    queue = DecodeQueue(bytes_of(active, 0))
    for slab in range(3):
        hold(queue, active, slab)
    assert admitted(queue)
    hold(queue, other, 0, priority=9.0)
    queue.drop(active)
    assert queue.in_flight == 0
    assert {shot for shot, _, _ in admitted(queue)} == {"other"}
    assert len(queue) == 0


def test_releasing_what_was_not_admitted_does_nothing() -> None:
    queue = DecodeQueue(100)
    queue.release("nobody", 3)
    assert queue.in_flight == 0


@settings(deadline=None, max_examples=50)
@given(
    budget=st.integers(1, 8),
    sizes=st.lists(st.sampled_from([64, 96, 224]), min_size=1, max_size=4),
    chance=st.randoms(use_true_random=False),
)
def test_all_slabs_come_through_within_the_budget(budget: int, sizes: list[int], chance: Any) -> None:
    shots = [run_of(f"s{number}", size) for number, size in enumerate(sizes)]
    most = budget * bytes_of(run_of("unit"), 1) // 2
    queue = DecodeQueue(most)
    slabs: list[tuple[ShotRun, Slab]] = [(active, slab) for active in shots for slab in active.plan.slabs]
    for active, slab in slabs:
        hold(queue, active, slab.index, priority=chance.random())
    flying: list[tuple[ShotRun, int]] = []
    left = len(slabs)
    while left:
        before = {(active.shot.id, slab) for active, slab in flying}
        for shot, slab, _ in admitted(queue):
            active = next(run for run in shots if run.shot.id == shot)
            if (shot, slab) not in before:
                before.add((shot, slab))
                flying.append((active, slab))
        assert queue.in_flight <= most or len(flying) == 1
        ready = [f for f in flying if f[1] == min(slab for run, slab in flying if run is f[0])]
        assert ready, "all wait for room, and nobody can make any"
        active, index = chance.choice(ready)
        flying.remove((active, index))
        encode(active, index)
        queue.release(active.shot.id, index)
        left -= 1
    assert (queue.in_flight, len(queue)) == (0, 0)
    assert queue.peak <= max(most, max(decoded_bytes(slab) for _, slab in slabs))

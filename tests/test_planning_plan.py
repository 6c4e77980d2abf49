"""A shot's graph: every need is made by a task before it, and nothing that the video needs is missing."""

from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planned import chunkings, settings_of, shot_of

from ltx_ray.errors import ConfigError, UserError
from ltx_ray.planning.plan import BODY, CONDITION, FINISH, TAIL, plan_shot
from ltx_ray.types import Need, ShotPlan, Slab, Stage, TaskKey, Tile

sizes = st.integers(1, 20).map(lambda n: 64 * n - 2)


@st.composite
def plans(draw: st.DrawFn) -> ShotPlan:
    """Shots of all kinds; those that no tile fits are left out."""
    chunk_size, overlap = draw(chunkings)
    shot = shot_of(draw(st.integers(1, 900)), draw(sizes), draw(sizes))
    options = {
        "ramp": draw(st.sampled_from([0, 32, 64])),
        "ramp_frames": draw(st.sampled_from([0, 8, 16])),
        "slab_frames": draw(st.integers(16, 200)),
        "tile_bytes": draw(st.sampled_from([2**26, 2**28, 2**31])),
    }
    try:
        return plan_shot(shot, settings_of(chunk_size, overlap, **options))
    except ConfigError:
        assume(False)
        raise


@settings(deadline=None)
@given(plan=plans())
def test_every_need_is_made_by_a_task_before_it(plan: ShotPlan) -> None:
    seen: set[TaskKey] = set()
    for task in plan.tasks:
        assert task.key not in seen
        assert {need.key for need in task.needs} <= seen, f"{task.key} stands before what it needs"
        assert len(set(task.needs)) == len(task.needs)
        seen.add(task.key)
    assert plan.tasks[0].key == CONDITION
    assert plan.tasks[-1].key == FINISH


@settings(deadline=None)
@given(plan=plans())
def test_no_task_is_made_for_nothing(plan: ShotPlan) -> None:
    used = {need.key for task in plan.tasks for need in task.needs}
    assert {task.key for task in plan.tasks} - used == {FINISH}


@settings(deadline=None)
@given(plan=plans())
def test_chunks_are_a_chain(plan: ShotPlan) -> None:
    for task in plan.tasks:
        if task.key.stage is Stage.DENOISE:
            before = {TaskKey(Stage.DENOISE, task.key.index - 1)} if task.key.index else set()
            assert {need.key for need in task.needs} == {CONDITION, *before}
            assert task.work == plan.chunks[task.key.index]


@settings(deadline=None)
@given(plan=plans())
def test_a_tile_needs_exactly_the_chunks_that_hold_its_slabs_latents(plan: ShotPlan) -> None:
    for task in plan.tasks:
        if task.key.stage is not Stage.DECODE:
            continue
        assert isinstance(task.work, tuple)
        slab, tile = task.work
        needed = [plan.chunks[need.key.index] for need in task.needs]
        latents = [j for chunk in needed for j in range(chunk.final_start, chunk.final_stop)]
        assert set(range(slab.t.in_start, slab.t.in_stop)) <= set(latents)
        assert latents == list(range(latents[0], latents[-1] + 1)), "they stand in order, without a gap"
        for chunk in needed:
            assert set(range(chunk.final_start, chunk.final_stop)) & set(
                range(slab.t.in_start, slab.t.in_stop)
            )
        assert task.made_bytes == slab.t.size * tile.y.size * tile.x.size * 3


@settings(deadline=None)
@given(plan=plans())
def test_a_segment_needs_its_tiles_and_the_tails_before_in_the_order_of_the_tiles(plan: ShotPlan) -> None:
    for task in plan.tasks:
        if task.key.stage is Stage.ASSEMBLE:
            index = task.key.index
            wanted = [
                Need(TaskKey(Stage.DECODE, index, tile.index), BODY) for tile in plan.slabs[index].tiles
            ]
            if index:
                tiles = plan.slabs[index - 1].tiles
                wanted += [Need(TaskKey(Stage.DECODE, index - 1, tile.index), TAIL) for tile in tiles]
            assert list(task.needs) == wanted


@settings(deadline=None)
@given(plan=plans())
def test_the_segments_are_the_video(plan: ShotPlan) -> None:
    assert [need.key for need in plan.tasks[-1].needs] == [
        TaskKey(Stage.ASSEMBLE, s.index) for s in plan.slabs
    ]
    assert sum(slab.num_frames for slab in plan.slabs) == plan.shot.num_frames
    first = 0
    for slab in plan.slabs:
        assert slab.first_frame == first
        assert slab.num_frames >= 1
        first += slab.num_frames


@settings(deadline=None)
@given(plan=plans())
def test_keys_read_back_from_their_names(plan: ShotPlan) -> None:
    assert [TaskKey.parse(str(task.key)) for task in plan.tasks] == [task.key for task in plan.tasks]


def test_a_plan_is_the_same_every_time() -> None:
    assert plan_shot(shot_of(360), settings_of()) == plan_shot(shot_of(360), settings_of())


def test_the_stages_of_360_frames_at_4k() -> None:
    plan = plan_shot(shot_of(360, 3840, 2160), settings_of())
    counts = Counter(task.key.stage for task in plan.tasks)
    assert counts[Stage.CONDITION] == counts[Stage.FINISH] == 1
    assert counts[Stage.DENOISE] == len(plan.chunks) == 4
    assert counts[Stage.ASSEMBLE] == len(plan.slabs)
    assert counts[Stage.DECODE] == sum(len(slab.tiles) for slab in plan.slabs)
    slab, tile = next(task.work for task in plan.tasks if task.key.stage is Stage.DECODE)  # type: ignore[misc]
    assert isinstance(slab, Slab)
    assert isinstance(tile, Tile)


def test_decoding_of_final_latents_does_not_wait_for_the_last_chunk() -> None:
    plan = plan_shot(shot_of(1440), settings_of(slab_frames=64))
    first = next(task for task in plan.tasks if task.key == TaskKey(Stage.DECODE, 0, 0))
    assert {need.key for need in first.needs} == {TaskKey(Stage.DENOISE, 0)}


@pytest.mark.parametrize(("guidance", "passes"), [(None, 2), (1.0, 1), (5.0, 2)])
def test_the_cost_of_a_chunk_is_its_tokens_times_passes_times_steps(
    guidance: float | None, passes: int
) -> None:
    plan = plan_shot(shot_of(200, guidance_scale=guidance, num_inference_steps=10), settings_of())
    chunk, task = plan.chunks[1], plan.tasks[2]
    assert task.cost == (chunk.length + chunk.tail) * 16 * 24 * passes * 10


@pytest.mark.parametrize(
    ("hears", "audio", "run", "shot", "passes"),
    [
        (True, "a.wav", 2.0, None, 3),
        (True, "a.wav", 1.0, 2.0, 3),
        (True, "a.wav", 2.0, 1.0, 2),
        (True, "a.wav", 1.0, None, 2),
        (True, "a.wav", 2.0, 0.0, 3),
        (True, None, 2.0, None, 2),
        (False, "a.wav", 2.0, 2.0, 2),
    ],
)
def test_audio_guidance_costs_a_pass_where_a_model_that_hears_has_something_to_hear(
    hears: bool, audio: str | None, run: float, shot: float | None, passes: int
) -> None:
    settings = settings_of(audio_guidance_scale=run, hears=hears)
    plan = plan_shot(shot_of(200, audio=audio, audio_guidance_scale=shot), settings)
    chunk, task = plan.chunks[1], plan.tasks[2]
    assert task.cost == (chunk.length + chunk.tail) * 16 * 24 * passes * 40


@pytest.mark.parametrize(
    ("own", "effective"),
    [({"chunk_size": 65}, (65, 24)), ({"overlap_frames": 48}, (121, 48)), ({"overlap_frames": 0}, (121, 0))],
)
def test_a_shot_may_have_chunks_of_its_own(own: dict[str, int], effective: tuple[int, int]) -> None:
    assert plan_shot(shot_of(360, **own), settings_of()).chunks == (
        plan_shot(shot_of(360), settings_of(*effective)).chunks
    )
    assert (
        plan_shot(shot_of(360, **own), settings_of()).chunks != plan_shot(shot_of(360), settings_of()).chunks
    )


def test_a_shot_that_cannot_be_planned_says_why() -> None:
    with pytest.raises(UserError, match="width must be even"):
        plan_shot(shot_of(9, 63, 64), settings_of())
    with pytest.raises(ConfigError, match="tile_bytes"):
        plan_shot(shot_of(9), settings_of(tile_bytes=2**20))

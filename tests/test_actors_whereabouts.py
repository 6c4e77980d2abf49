"""Pixels stay on their node where a worker is free there; nobody waits for it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from planned import settings_of, shot_of
from simulated_farm import fresh_url, render_once, write_manifest
from simulated_world import CONFIG, Odds, Row, World

from actors.observer import Observer
from actors.shot_run import ShotRun
from actors.whereabouts import Whereabouts
from actors.work import Done
from ltx_ray.config import PoolsConfig
from ltx_ray.planning import plan
from ltx_ray.run import RunSpec
from ltx_ray.types import Receipt, Stage, TaskKey

pytestmark = pytest.mark.usefixtures("_empty_store")
PLAN = plan.plan_shot(
    shot_of(num_frames=241, width=768, height=512), settings_of(tile_size=384, halo=0, slab_frames=64)
)
ROWS = [Row(chunks=4, size=256)] * 16
TILES = len(PLAN.slabs[0].tiles)
TASKS = {task.key: task for task in PLAN.tasks}


def decode(slab: int, tile: int) -> TaskKey:
    return TaskKey(Stage.DECODE, slab, tile)


def test_a_slab_is_assembled_where_most_of_its_pixels_are() -> None:
    assert TILES >= 3
    found = Whereabouts(PLAN)
    for tile in range(TILES):
        found.made(decode(0, tile), "a")  # of which the next segment takes a few frames each
        found.made(decode(1, tile), "b" if tile else "c")
    assert found.near(TASKS[TaskKey(Stage.ASSEMBLE, 1)]) == ("b", "c", "a")


def test_a_tile_is_decoded_where_the_last_segment_was_made_else_where_its_latents_are() -> None:
    found, task = Whereabouts(PLAN), TASKS[decode(0, 0)]
    assert found.near(task) == ()
    for need in task.needs:
        found.made(need.key, "denoiser")
    assert found.near(task) == ("denoiser",)
    found.made(TaskKey(Stage.ASSEMBLE, 0), "assembler")
    assert found.near(task) == ("assembler", "denoiser")


class Crossings(Observer):
    """Counts the bytes of tiles, and those that were assembled on another node."""

    def __init__(self) -> None:
        self.bytes = self.crossed = 0
        self._nodes: dict[tuple[str, TaskKey], str] = {}

    def done(self, active: ShotRun, receipt: Receipt, done: Done) -> None:
        """A task ended well."""
        self._nodes[active.shot.id, receipt.key] = done.worker_node
        if receipt.key.stage is Stage.ASSEMBLE:
            slab = active.plan.slabs[receipt.key.index]
            for tile in slab.tiles:
                size = plan.decoded_bytes(slab, tile)
                self.bytes += size
                made_on = self._nodes[active.shot.id, decode(slab.index, tile.index)]
                self.crossed += size if made_on != done.worker_node else 0


@pytest.mark.parametrize("places", [("a", "b"), ("a", "b", "c", "d")])
def test_most_pixels_are_assembled_on_the_node_that_decoded_them(
    places: Sequence[str], tmp_path: Path
) -> None:
    manifest, seen = tmp_path / "shots.jsonl", Crossings()
    write_manifest(manifest, ROWS)
    config = CONFIG.model_copy(update={"pools": PoolsConfig(max_decoded_bytes=2**30)})
    spec = replace(RunSpec.decide(config, str(tmp_path), "cpu"), out=fresh_url())
    world = World(spec, Odds(), seed=5, places=tuple(places))
    number = len(places)
    sizes = {
        Stage.CONDITION: 1,
        Stage.DENOISE: number,
        Stage.DECODE: 4 * number,
        Stage.ASSEMBLE: number,
        Stage.FINISH: 1,
    }
    summary = render_once(world, str(manifest), sizes, max_active=16, observer=seen)
    assert summary.progress.done == len(ROWS)
    by_chance = 1 - 1 / number
    assert seen.crossed < 0.8 * by_chance * seen.bytes

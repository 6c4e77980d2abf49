"""A run on a cluster with a bad node: every shot ends well, and the node is named."""

from dataclasses import replace
from pathlib import Path

import pytest
from simulated_farm import fresh_url, output_rows, render_once, write_manifest
from simulated_world import CONFIG, Odds, Row, World

from ltx_ray.run import RunSpec
from ltx_ray.types import Stage

pytestmark = pytest.mark.usefixtures("_empty_store")
SIZES = dict.fromkeys(Stage, 3)


def world_of(places: tuple[str, ...], bad: set[str]) -> World:
    spec = RunSpec.decide(CONFIG, fresh_url(), "cpu")
    return World(replace(spec, out=fresh_url()), Odds(), seed=3, places=places, bad=frozenset(bad))


def test_a_bad_node_is_found_out_and_fails_no_shot(tmp_path: Path) -> None:
    world = world_of(("good", "bad", "fine"), {"bad"})
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=2) for _ in range(12)])
    summary = render_once(world, str(tmp_path / "shots.jsonl"), SIZES, max_active=6)
    assert (summary.progress.done, summary.progress.failed) == (12, 0)
    assert summary.progress.quarantined == ("bad",)
    assert all(row["status"] == "done" for row in output_rows(world.spec.out))
    # Each stage's one worker there may have met a task before three of them were done elsewhere.
    assert sum(count - 1 for count in world.attempts.values()) <= 12


def test_where_every_node_is_bad_the_shots_fail_and_no_node_is_blamed(tmp_path: Path) -> None:
    world = world_of(("a", "b"), {"a", "b"})
    write_manifest(tmp_path / "shots.jsonl", [Row(chunks=1) for _ in range(5)])
    summary = render_once(world, str(tmp_path / "shots.jsonl"), SIZES, max_active=2)
    assert (summary.progress.done, summary.progress.failed) == (0, 5)
    assert summary.progress.quarantined == ()

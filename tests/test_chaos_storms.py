"""Storms: while twenty shots are rendered, whatever is at work is killed, again and again."""

import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from faulty_runs import Scene, ended_by_hand, environment, undisturbed_hashes
from ray_cluster import is_actor
from runs import PATIENCE, finish, start

from ltx_ray.errors import StorageError
from ltx_ray.ledger.ledger import read_records
from ltx_ray.storage import Store

SHOTS, CHUNKS = 20, 2
ROWS = [
    {"id": f"s{number:02d}", "prompt": f"a blue square {number}", "width": 64, "height": 64, "num_frames": 33}
    for number in range(SHOTS)
]
SETTINGS = ("sampling.num_inference_steps=3", "sampling.chunk_size=25", "sampling.overlap_frames=8")
MOST_KILLS = 8


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return undisturbed_hashes(tmp_path_factory.mktemp("undisturbed"), ROWS, SETTINGS)


def records(out: Path) -> int:
    """How far the run is."""
    try:
        return sum(1 for _ in read_records(Store(str(out))))
    except (FileNotFoundError, StorageError):
        return 0


def reached(out: Path, count: int, run: "subprocess.Popen[str]") -> bool:
    """Wait for so many records; whether the run still lives."""
    end = time.monotonic() + 3 * PATIENCE
    while run.poll() is None:
        if records(out) >= count:
            return True
        assert time.monotonic() < end, f"no {count} records within {3 * PATIENCE} s"
        time.sleep(0.05)
    return False


def struck(luck: random.Random, scene: Scene, run: "subprocess.Popen[str]") -> str:
    """Kill somebody: the driver, or an actor, the coordinator among them; who it was."""
    if luck.random() < 0.2:
        ended_by_hand(run)
        return "driver"
    victims = []
    for process in scene.processes():
        try:
            title = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if is_actor(title):
            victims.append((title, process))
    if not victims:
        return "nobody"
    title, process = luck.choice(sorted(victims, key=lambda each: each[0]))
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return "nobody"
    return title


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(20))
def test_a_storm_changes_no_byte(tmp_path: Path, undisturbed: dict[str, str], seed: int) -> None:
    luck = random.Random(seed)
    scene = Scene(tmp_path, undisturbed, tmp_path / "fault.json", ROWS, CHUNKS, SETTINGS)
    words = scene.command()
    run = start(words, environment(scene.fault))
    killed: Counter[str] = Counter()
    for _ in range(luck.randint(3, MOST_KILLS)):
        if reached(scene.out, records(scene.out) + luck.randint(1, 25), run):
            killed[struck(luck, scene, run)] += 1
        elif run.returncode == 0:
            break
        if run.poll() is not None:
            run = start(words, environment(scene.fault))
    finish(run)
    assert killed, "nobody was killed"
    scene.check_all_is_well()

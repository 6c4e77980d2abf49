"""A cluster is looked at before a run begins there, and a node that joins later before it gets any work."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_runs import SETTINGS
from ray_cluster import SHARE, SHARES, Cluster, cluster
from runs import QUICK, command, finish, manifest_rows, start, wait_until, write_manifest

from ltx_ray.ledger.lease import read_lease
from ltx_ray.storage import Store

# Each process has a folder of its own there: what lies in it is seen by who was started in the same place.
OWN_OUT = "/proc/self/cwd/out"
ROWS = [
    {"id": f"s{n}", "prompt": "a red circle", "width": 64, "height": 64, "num_frames": 9} for n in range(3)
]


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders in which nodes can be started; the first is where the head and the command are."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.chdir(here)
    return here, there


@pytest.fixture
def made(places: tuple[Path, Path], tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "fault") as found:
        yield found


def add_elsewhere(made: Cluster, place: Path, **more: Any) -> str:
    """A node that was started in ``place``."""
    here = Path.cwd()
    os.chdir(place)
    try:
        return made.add(**more)
    finally:
        os.chdir(here)


def test_an_out_that_a_node_does_not_see_is_refused_and_a_shared_one_is_not(
    made: Cluster, places: tuple[Path, Path], tmp_path: Path
) -> None:
    here, there = places
    manifest = write_manifest(tmp_path / "shots.jsonl", ROWS[:1])
    made.add(cpus=8 * SHARE)
    lost = add_elsewhere(made, there, cpus=6 * SHARE)
    words = command(manifest, Path(OWN_OUT), "--address", made.address, settings=(*QUICK, SHARES))
    process = start(words)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 4, (out, err)
    for part in (
        f"/{lost[:6]}",
        "which was just written, is not there",
        "every node shares",
        "s3://",
        "doctor",
    ):
        assert part in err, err
    assert "Traceback" not in err
    assert not (here / "out").exists(), "nothing was begun, and nothing is left"
    assert not (there / "out").exists()

    # What a row names has to be there, too.
    (tmp_path / "image.png").write_bytes(
        (Path(__file__).parent.parent / "examples/assets/red_circle.png").read_bytes()
    )
    row = {**ROWS[0], "image": "/proc/self/cwd/image.png"}
    (here / "image.png").write_bytes((tmp_path / "image.png").read_bytes())
    named = write_manifest(tmp_path / "named.jsonl", [row])
    words = command(named, tmp_path / "out", "--address", made.address, "--input-root", "/proc/self/cwd")
    process = start(words)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 4, (out, err)
    assert "inputs on nodes" in err
    assert "/proc/self/cwd/image.png cannot be read" in err
    assert "output on nodes" not in err

    shared = command(manifest, tmp_path / "out", "--address", made.address, settings=(*QUICK, SHARES))
    finish(start(shared))
    assert [row["status"] for row in manifest_rows(tmp_path / "out")] == ["done"]
    assert not list((tmp_path / "out").glob("doctor-*"))


@pytest.mark.slow
def test_an_unfit_node_that_joins_later_is_named_and_gets_no_work(
    made: Cluster, places: tuple[Path, Path], tmp_path: Path
) -> None:
    here, there = places
    manifest = write_manifest(tmp_path / "shots.jsonl", [{**row, "num_frames": 60} for row in ROWS])
    made.add(cpus=5 * SHARE)  # one actor of each stage
    pools = ("--denoisers", "3", "--address", made.address)
    settings = (*SETTINGS, SHARES, "pools.idle_seconds=1")  # who has nothing to do makes room soon
    run = start(command(manifest, Path(OWN_OUT), *pools, settings=settings))
    wait_until(lambda: (here / "out" / "ledger").exists(), run)
    lost = add_elsewhere(made, there)

    def left_out() -> bool:
        lease = read_lease(Store(str(here / "out")))
        told = (lease and lease.progress) or {}
        return lost in told.get("quarantined", ()) and "it must be a folder that all nodes share" in str(
            told.get("message")
        )

    wait_until(left_out, run)
    assert made.actors_on(lost) == {}, "the actor that asked is gone"
    finish(run)
    rows = manifest_rows(here / "out")
    assert sorted((row["id"], row["status"]) for row in rows) == [(f"s{n}", "done") for n in range(3)]
    assert not (there / "out").exists()

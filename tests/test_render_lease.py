"""Two drivers on one OUT: the second is refused while the first lives, and takes over when it is dead."""

import json
import signal
from collections import Counter
from pathlib import Path

import pytest
from runs import (
    command,
    committed_chunks,
    finish,
    manifest_rows,
    render_here,
    start,
    video_hashes,
    wait_until,
    write_manifest,
)

from jobs.control import request
from ltx_ray.ledger.control import Request
from ltx_ray.ledger.lease import read_lease
from ltx_ray.storage import Store

ROWS = [
    {"id": f"s{number}", "prompt": "a red circle", "width": 96, "height": 96, "num_frames": 97}
    for number in range(3)
]
HERE = ("--address", "in-process", "--denoisers", "1")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "shots.jsonl", ROWS)


@pytest.fixture
def undisturbed(manifest: Path, tmp_path: Path) -> dict[str, str]:
    render_here(manifest, tmp_path / "undisturbed")
    return video_hashes(tmp_path / "undisturbed")


def once() -> Counter[tuple[str, int]]:
    return Counter({(row["id"], index): 1 for row in ROWS for index in range(4)})


def test_the_second_driver_is_refused_until_the_first_is_killed(
    manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = start(command(manifest, out, *HERE))
    wait_until(lambda: (out / "run.json").exists() and committed_chunks(out), first)
    request(str(out), Request(verb="pause"))  # it must not end before the second one has looked
    second = start(command(manifest, out, *HERE))
    _, told = second.communicate(timeout=120)
    assert second.returncode == 4, told
    assert f"another one writes to it: process {first.pid} on " in told
    first.kill()
    first.wait()
    finish(start(command(manifest, out, *HERE)))
    assert video_hashes(out) == undisturbed
    assert committed_chunks(out) == once()
    assert len(manifest_rows(out)) == len(ROWS)


@pytest.mark.slow
def test_a_zombie_finds_that_it_was_replaced_and_spoils_nothing(
    manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    zombie = start(command(manifest, out, *HERE))
    wait_until(lambda: (out / "run.json").exists() and committed_chunks(out), zombie)
    zombie.send_signal(signal.SIGSTOP)
    store = Store(str(out))
    lease = json.loads(store.read("ledger/0000/lease.json"))
    # As of another machine, where nobody can look whether it lives.
    store.write("ledger/0000/lease.json", json.dumps(lease | {"machine": "elsewhere"}).encode())
    heir = start(command(manifest, out, *HERE))  # after 20 seconds of silence

    def is_replaced() -> bool:
        found = read_lease(store)
        return found is not None and found.pid == heir.pid

    wait_until(is_replaced, heir)
    zombie.send_signal(signal.SIGCONT)
    _, told = zombie.communicate(timeout=120)
    assert zombie.returncode == 1, told
    assert "another driver" in told
    finish(heir)
    assert video_hashes(out) == undisturbed
    assert len(manifest_rows(out)) == len(ROWS)
    assert [path for path in (out / "work").rglob("*") if path.is_file()] == []

"""One process = a cluster, with an actor killed or not; and a killed driver's run goes on where it was."""

import signal
import time
from pathlib import Path

import psutil
import pytest
from runs import (
    actors,
    command,
    committed_chunks,
    finish,
    manifest_rows,
    start,
    video_hashes,
    wait_until,
    write_manifest,
)

from ltx_ray.media.probe import probe_video

SHOTS = [
    {"id": "wide", "prompt": "a red circle moving right", "width": 160, "height": 96, "num_frames": 60},
    {"id": "tall", "prompt": "a blue square moving up", "width": 96, "height": 130, "num_frames": 49},
    {"id": "short", "prompt": "a green triangle", "width": 64, "height": 64, "num_frames": 9, "fps": 30},
    {"id": "long", "prompt": "a cyan circle moving left", "width": 96, "height": 64, "num_frames": 97},
]
# Small slabs and tiles, so that every video is blended in time and space.
TILES = ("decoding.slab_frames=32", "decoding.tile_size=96", "decoding.halo=0", "decoding.ramp=32")
SETTINGS = (
    "sampling.num_inference_steps=12",
    "sampling.chunk_size=25",
    "sampling.overlap_frames=8",
    *TILES,
)
STAGES = ("Conditioner", "Denoiser", "TileDecoder", "Assembler", "Finisher")
NUM_CHUNKS = {"wide": 3, "tall": 2, "short": 1, "long": 4}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("manifest") / "shots.jsonl", SHOTS)


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the videos of one process without Ray."""
    out = tmp_path_factory.mktemp("in-process")
    finish(start(command(manifest, out, "--address", "in-process", settings=SETTINGS)))
    return video_hashes(out)


def test_the_videos_are_what_was_asked_for(
    manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    finish(start(command(manifest, tmp_path, "--denoisers", "1", "--decoders", "1", settings=SETTINGS)))
    assert video_hashes(tmp_path) == undisturbed, "pools of one actor give other bytes than one process"
    assert committed_chunks(tmp_path) == {
        (shot, index): 1 for shot, count in NUM_CHUNKS.items() for index in range(count)
    }
    rows = {row["id"]: row for row in manifest_rows(tmp_path)}
    for shot in SHOTS:
        facts = probe_video(tmp_path / rows[str(shot["id"])]["file_name"])
        assert (facts.num_frames, facts.width, facts.height) == (
            shot["num_frames"],
            shot["width"],
            shot["height"],
        )
        assert facts.fps == shot.get("fps", 24)
    assert [p for p in (tmp_path / "work").rglob("*") if p.is_file()] == [], (
        "chunks of done shots are removed"
    )


def test_a_killed_denoiser_changes_no_byte(
    manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    run = start(command(manifest, tmp_path, "--denoisers", "3", "--decoders", "4", settings=SETTINGS))
    victim = wait_until(lambda: committed_chunks(tmp_path) and actors(run, "Denoiser.run"), run)[0]
    victim.kill()
    finish(run)
    assert video_hashes(tmp_path) == undisturbed
    assert set(committed_chunks(tmp_path).values()) == {1}
    assert not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE


def test_a_run_goes_on_after_ctrl_c_and_after_its_driver_was_killed(
    manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    words = command(manifest, tmp_path, settings=SETTINGS)

    run = start(words)
    wait_until(lambda: len(committed_chunks(tmp_path)) >= 2, run)
    pressed = time.monotonic()
    run.send_signal(signal.SIGINT)
    finish(run, 130)
    assert time.monotonic() - pressed < 5
    before = committed_chunks(tmp_path)
    assert sum(before.values()) < sum(NUM_CHUNKS.values()), "there must be something left to do"

    run = start(words)
    wait_until(lambda: len(committed_chunks(tmp_path)) >= len(before) + 2, run)
    ours = [process for stage in ("Host", *STAGES) for process in actors(run, stage)]
    assert len(ours) >= 3
    run.kill()
    run.communicate()
    assert psutil.wait_procs(ours, timeout=30)[1] == [], "a killed driver leaves no actor behind"

    # It may go on elsewhere: what was begun on Ray ends in one process, with the same bytes.
    elsewhere = command(manifest, tmp_path, "--address", "in-process", settings=SETTINGS)
    finish(start(elsewhere))
    assert video_hashes(tmp_path) == undisturbed
    chunks = committed_chunks(tmp_path)
    assert set(chunks) == {(shot, i) for shot, count in NUM_CHUNKS.items() for i in range(count)}
    assert set(chunks.values()) == {1}, "a finished chunk was denoised again"

    finish(start(elsewhere))  # nothing is left to do, and nothing is done
    assert committed_chunks(tmp_path) == chunks

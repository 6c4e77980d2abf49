"""Storage that fails: nothing is lost, the error says what to do, and the same command goes on."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fsspec
import pytest
from faulty_s3 import KINDS, FaultyS3, faulty_s3
from runs import committed_chunks, render_here, video_hashes, write_manifest

from ltx_ray.errors import StorageError
from ltx_ray.ledger.ledger import read_results
from ltx_ray.storage import Store
from ltx_ray.types import Status

ROWS = [
    {"id": f"s{number}", "prompt": "a red circle", "width": 64, "height": 64, "num_frames": 41}
    for number in range(3)
]


@pytest.fixture
def s3(s3_endpoint: str, s3_out: str) -> Iterator[tuple[str, FaultyS3]]:
    """An OUT behind the proxy, and the proxy."""
    with faulty_s3(s3_endpoint) as (url, faulty), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        fsspec.filesystem("s3").clear_instance_cache()
        yield s3_out, faulty
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    render_here(write_manifest(folder / "shots.jsonl", ROWS), folder / "out")
    return video_hashes(folder / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_answer_changes_nothing(s3: tuple[str, FaultyS3], kind: str) -> None:
    out, faulty = s3
    store = Store(out)
    store.write("warm", b"up")
    for number, again in ((1, True), (2, False)):
        name = f"ledger/{uuid.uuid4().hex}"
        faulty.forced = [kind]
        assert store.create(name, b"mine"), f"{kind}: the {number}. record was taken for another driver's"
        faulty.forced = [kind]
        assert not store.create(name, b"another's"), f"{kind}: the second create was not refused"
        assert store.read(name) == b"mine"
        if again:
            assert faulty.met[kind] >= 2
    for read in (lambda: store.read("warm"), lambda: store.size("warm"), lambda: store.list("")):
        faulty.forced = [kind]
        assert read()
    faulty.forced = [kind]
    store.write("warm", b"anew")
    faulty.forced = [kind]
    assert store.read("warm") == b"anew"
    faulty.forced = [kind]
    store.delete("warm")
    assert store.size("warm") is None


def hashes_of(out: str) -> dict[str, str | None]:
    return {result.id: result.sha256 for result in read_results(Store(out)) if result.status is Status.DONE}


def test_a_run_on_a_store_that_stumbles_makes_the_same_videos(
    s3: tuple[str, FaultyS3], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out, faulty = s3
    faulty.odds = dict.fromkeys(KINDS, 0.02)
    summary = render_here(write_manifest(tmp_path / "shots.jsonl", ROWS), out)
    assert summary.progress.done == len(ROWS)
    assert hashes_of(out) == undisturbed
    assert set(committed_chunks(out).values()) == {1}
    assert sum(faulty.met[kind] for kind in KINDS) >= 5, "the store has hardly stumbled"


def test_a_store_that_is_down_stops_the_run_and_loses_nothing(
    s3: tuple[str, FaultyS3], undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out, faulty = s3
    manifest = write_manifest(tmp_path / "shots.jsonl", ROWS)
    render_here(manifest, out, limit=1)
    before = committed_chunks(out)
    faulty.odds = {"500": 1.0}
    with pytest.raises(StorageError, match="give the same command again"):
        render_here(manifest, out)
    faulty.odds = {}
    assert render_here(manifest, out).progress.done == len(ROWS)
    assert hashes_of(out) == undisturbed
    assert set(committed_chunks(out).values()) == {1}
    assert all(place in committed_chunks(out) for place in before)


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "ltx-ray", place], capture_output=True
    ).returncode:
        pytest.skip("this user may mount nothing")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_no_more_stops_the_run_and_loses_nothing(
    undisturbed: dict[str, str], tmp_path: Path, disk: Path, how: str
) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", ROWS)
    render_here(manifest, disk / "out", limit=1)
    if how == "full":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(StorageError, match="disk is full: free" if how == "full" else "read-only: choose"):
        render_here(manifest, disk / "out")
    if how == "full":
        (disk / "filler").unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert render_here(manifest, disk / "out").progress.done == len(ROWS)
    assert video_hashes(disk / "out") == undisturbed
    assert set(committed_chunks(disk / "out").values()) == {1}

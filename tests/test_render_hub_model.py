"""A model of the hub on a cluster: each node fetches one commit once; where it cannot, that is told."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import hub_of
from ray_cluster import SHARE, SHARES, Cluster, cluster
from runs import QUICK, command, finish, manifest_rows, start, write_manifest

from actors.fetching import Fetching
from ltx_ray.checkpoints import tiny_path

ROW = {"id": "s", "prompt": "a red circle", "width": 64, "height": 64, "num_frames": 25}


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def made(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose processes know a hub with the built-in model, and each node of which has a cache."""
    files = {
        path.relative_to(tiny_path()).as_posix(): path for path in tiny_path().rglob("*") if path.is_file()
    }
    with hub_of(files, asked) as url:
        for name, value in (
            ("HF_ENDPOINT", url),
            ("HF_HUB_DISABLE_XET", "1"),
            ("HF_HUB_DISABLE_TELEMETRY", "1"),
            ("HF_HOME", str(tmp_path / "home")),
        ):
            monkeypatch.setenv(name, value)
        with cluster(tmp_path / "fault") as found:
            yield found


def test_each_node_fetches_the_commit_of_the_run_once_and_one_without_a_network_is_refused(
    made: Cluster, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [ROW, {**ROW, "id": "t"}])
    homes = [tmp_path / f"home-{number}" for number in range(2)]
    for number, home in enumerate(homes):
        # Three actors on the one, the others on the other.
        made.add(cpus=(3 + number) * SHARE, env_vars={"HF_HOME": str(home)})
    # The branch moves on as soon as the command has found its commit: no actor may follow it.
    options = ("--address", made.address, "--model", "me/model", "--denoisers", "2", "--decoders", "2")
    settings = (*QUICK, SHARES, "pools.max_downloads=1", "model.preset=tiny")
    finish(start(command(manifest, tmp_path / "out", *options, settings=settings)))
    assert [row["status"] for row in manifest_rows(tmp_path / "out")] == ["done", "done"]
    assert all((home / "hub" / "models--me--model").is_dir() for home in homes)
    weights = "transformer/diffusion_pytorch_model.safetensors"
    bodies = Counter(asked)[f"GET {weights}"]
    assert bodies == 3, "once for the command, once for each node, however many actors it has"

    made.add(cpus=5 * SHARE, env_vars={"HF_HOME": str(tmp_path / "home-2"), "HF_HUB_OFFLINE": "1"})
    process = start(
        command(manifest, tmp_path / "again", *options, "--model", "me/model@v1", settings=settings)
    )
    out, err = process.communicate(timeout=180)
    assert process.returncode == 4, (out, err)
    for part in ("model on nodes", "HF_HUB_OFFLINE is set", "hf download me/model", str(tmp_path / "home-2")):
        assert part in err, err
    assert not (tmp_path / "again").exists()


def test_only_so_many_nodes_fetch_at_a_time_and_a_node_asks_once() -> None:
    async def play() -> tuple[int, int]:
        fetching, at_work, most, fetched = Fetching(2), 0, 0, set()

        async def actor(node: str) -> None:
            nonlocal at_work, most
            async with fetching.on(node):
                if node in fetched:
                    return
                async with fetching.slot():
                    at_work += 1
                    most = max(most, at_work)
                    for _ in range(3):
                        await asyncio.sleep(0)
                    fetched.add(node)
                    at_work -= 1

        await asyncio.gather(*(actor(f"n{number % 7}") for number in range(40)))
        return most, len(fetched)

    assert asyncio.run(play()) == (2, 7)

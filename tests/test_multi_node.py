"""Runs on a cluster of three nodes that come and go, and that several runs share."""

import io
import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import fsspec
import psutil
import pyarrow.parquet as pq
import pytest
from faulty_runs import ended_by_hand, orphans, undisturbed_hashes
from ray_cluster import Cluster, cluster
from runs import command, committed_chunks, finish, start, video_hashes, wait_until

from cluster.census import MARKET_LABEL
from jobs.status import report
from jobs.verify import verify
from ltx_ray.ledger.lease import read_lease
from ltx_ray.ledger.ledger import read_records
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.shard import Shard
from ltx_ray.storage import Store
from ltx_ray.types import Stage

# A node has room for one denoiser, and beside it for all the other actors of a run, wherever those are.
NODE, DENOISER, OTHER = 20, 11, 1.5
SHARES = (
    f"pools.cpu_shares={{denoise = {DENOISER}, condition = {OTHER}, decode = {OTHER}, "
    f"assemble = {OTHER}, finish = {OTHER}}}"
)
# Two slabs of four tiles in each long shot.
CONTENT = (
    *("sampling.num_inference_steps=16", "sampling.chunk_size=25", "sampling.overlap_frames=8"),
    *("decoding.slab_frames=64", "decoding.tile_size=96", "decoding.halo=0", "decoding.ramp=32"),
)
ROWS: list[dict[str, Any]] = [
    {"id": f"s{number}", "prompt": f"a red circle {number}", "width": 96, "height": 96, "num_frames": 97}
    for number in range(8)
]
CHUNKS = 4  # of each
FEW = [{**row, "num_frames": 73} for row in ROWS[:5]]
FEW_CHUNKS = 3  # of each
DONE = re.compile(r" (\w+)-(\d+): .* process (\d+)\), attempt")
SHARDS = Shard(1, 2).all


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Cluster]:
    """A cluster without nodes yet, which finds the S3 server."""
    assert s3_endpoint
    with cluster(tmp_path_factory.mktemp("nodes") / "no-fault.json") as made:
        yield made


def begun(nodes: Cluster, manifest: Path, out: Path | str, *words: str) -> "subprocess.Popen[str]":
    options = ("--address", nodes.address, "--decoders", "2", "--set", "pools.assemblers=1", *words)
    return start(command(manifest, out, *options, settings=(*CONTENT, SHARES)))


def titles(nodes: Cluster, node: str) -> Collection[str]:
    """What Ray calls the processes of runs on a node."""
    return nodes.actors_on(node).values()


def denoisers(nodes: Cluster, node: str, *, at_work: bool = False) -> set[int]:
    """Their processes on a node."""
    title = "ray::Denoiser.run" if at_work else "ray::Denoiser"
    return {process.pid for process, name in nodes.actors_on(node).items() if name.startswith(title)}


def without_coordinator(nodes: Cluster, among: Collection[str]) -> str:
    """A node with a denoiser at work, and none of those that keep a run in mind."""
    free = [node for node in among if not any(name.startswith("ray::Host") for name in titles(nodes, node))]
    return next((node for node in free if denoisers(nodes, node, at_work=True)), "")


def lose(nodes: Cluster, node: str) -> None:
    """From one moment to the next, with all that is on it."""
    lost = set(nodes.actors_on(node))
    nodes.remove(node)
    assert psutil.wait_procs(lost, timeout=60)[1] == []


def done_by(out: Path) -> dict[tuple[str, str, int], int]:
    """The process that did a task: of a shot, a stage and a number."""
    found = {}
    for path in (out / "logs").rglob("*.log"):
        for line in path.read_text().splitlines():
            if match := DONE.search(line):
                found[path.name.split(".")[0], match[1], int(match[2])] = int(match[3])
    return found


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A manifest, and the hashes of its videos as one process without Ray makes them."""
    folder = tmp_path_factory.mktemp("few")
    hashes = undisturbed_hashes(folder, FEW, CONTENT)
    return folder / "shots.jsonl", hashes


@pytest.mark.slow
def test_nodes_come_and_go_in_one_run_and_latents_cross_between_them(nodes: Cluster, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    undisturbed = undisturbed_hashes(alone, ROWS, CONTENT)
    manifest, out = alone / "shots.jsonl", tmp_path / "out"
    first, second = nodes.top_up(2, NODE)
    run = begun(nodes, manifest, out, "--denoisers", "3")
    places: dict[int, str] = {}  # node by process

    def both_work() -> bool:
        for node in (first, second):
            places.update(dict.fromkeys(denoisers(nodes, node), node))
        return {first, second} <= set(places.values()) and sum(committed_chunks(out).values()) >= 3

    wait_until(lambda: (out / "run.json").exists() and both_work(), run)
    third = nodes.add(NODE)
    places |= dict.fromkeys(wait_until(lambda: denoisers(nodes, third, at_work=True), run), third)
    lose(nodes, wait_until(lambda: without_coordinator(nodes, (first, second)), run))
    assert sum(committed_chunks(out).values()) < CHUNKS * len(ROWS), "there must be something left to do"
    finish(run)

    assert video_hashes(out) == undisturbed
    wanted = {(row["id"], index): 1 for row in ROWS for index in range(CHUNKS)}
    assert committed_chunks(out) == wanted, "a finished chunk was made again, or one was lost"
    assert list(orphans(out)) == []
    nodes_of = {
        (shot, number): places[pid]
        for (shot, stage, number), pid in done_by(out).items()
        if stage == "denoise" and pid in places
    }
    assert set(nodes_of.values()) == {first, second, third}, "each has made chunks"
    crossings = [
        (shot, number)
        for (shot, number), node in nodes_of.items()
        if nodes_of.get((shot, number + 1), node) != node
    ]
    assert crossings, "no chunk was made on another node than the one before it"


def chunks_of(out: str, shard: Shard) -> list[tuple[str, int]]:
    """Those that a shard has committed."""
    return [
        (record.shot_id, record.key.index)
        for record in read_records(Store(out), shard.name)
        if isinstance(record, ArtefactRecord) and record.key.stage is Stage.DENOISE
    ]


def told_by(targets: Path) -> dict[str, str]:
    """What the metrics of each run say, by the address at which they are."""
    found = {}
    for path in targets.glob("*.json"):
        (address,) = json.loads(path.read_text())[0]["targets"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
            found[address] = answer.read().decode()
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_two_shards_on_s3_share_a_cluster_that_loses_a_node(
    nodes: Cluster, few: tuple[Path, dict[str, str]], s3_out: str, tmp_path: Path
) -> None:
    manifest, undisturbed = few
    among, port, targets = nodes.top_up(3, NODE), free_port(), tmp_path / "targets"
    metrics = (f"metrics.port={port}", f"metrics.discovery={targets}", "metrics.linger_seconds=0")
    shared = ("--denoisers", "1", *(word for setting in metrics for word in ("--set", setting)))
    runs = {each: begun(nodes, manifest, s3_out, *shared, "--shard", str(each)) for each in SHARDS}
    for shard, run in runs.items():
        wait_until(lambda s=shard: chunks_of(s3_out, s), run)
    told = told_by(targets)
    assert len(told) == 2
    assert f"127.0.0.1:{port}" in told, "the other one found the port taken"
    shards = {
        re.findall(r'ltx_ray_running\{run="out",shard="(\d+)"\} 1.0', text)[0] for text in told.values()
    }
    assert shards == {shard.name for shard in SHARDS}
    lose(nodes, wait_until(lambda: without_coordinator(nodes, among), runs[SHARDS[0]]))
    for run in runs.values():
        finish(run)
    fs, root = fsspec.core.url_to_fs(s3_out)
    tables = [pq.read_table(io.BytesIO(fs.cat_file(path))) for path in fs.glob(f"{root}/manifest/*.parquet")]
    assert {row["id"]: row["sha256"] for table in tables for row in table.to_pylist()} == undisturbed
    assert verify(s3_out).findings == ()
    assert report(s3_out).ended["done"] == len(FEW)
    for shard in SHARDS:
        own = [row["id"] for row in FEW if shard.has(row["id"])]
        assert sorted(chunks_of(s3_out, shard)) == [(name, n) for name in own for n in range(FEW_CHUNKS)]


@pytest.mark.slow
def test_two_runs_on_one_cluster_know_nothing_of_each_other(
    nodes: Cluster, few: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    manifest, undisturbed = few
    nodes.top_up(3, NODE)
    outs = [tmp_path / "a", tmp_path / "b"]
    killed, other = (begun(nodes, manifest, out, "--denoisers", "1") for out in outs)
    for out, run in zip(outs, (killed, other), strict=True):
        wait_until(lambda at=out: (at / "run.json").exists() and committed_chunks(at), run)
    ended_by_hand(killed)
    finish(begun(nodes, manifest, outs[0], "--denoisers", "1"))
    finish(other)
    for out in outs:
        assert video_hashes(out) == undisturbed
        assert set(committed_chunks(out).values()) == {1}, "a finished chunk was denoised again"
        assert list(orphans(out)) == []
    lease = read_lease(Store(str(outs[1])))
    assert lease is not None
    assert lease.progress is not None
    assert (lease.epoch, lease.progress["retries"]) == (1, 0), "what became of one was felt by the other"
    assert not set(done_by(outs[0]).values()) & set(done_by(outs[1]).values()), "actors are of one run"


@pytest.mark.slow
def test_stages_are_on_the_market_that_they_ask_for_and_elsewhere_when_it_is_gone(
    nodes: Cluster, few: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    manifest, undisturbed = few
    out = tmp_path / "out"
    others = nodes.top_up(3, NODE)
    spot, lasting = (nodes.add(NODE, labels={MARKET_LABEL: market}) for market in ("spot", "on-demand"))
    market = 'pools.market={denoise = "spot", decode = "spot", assemble = "on-demand"}'
    run = begun(nodes, manifest, out, "--denoisers", "1", "--set", market)

    def stages_on(node: str) -> set[str]:
        return {name.removeprefix("ray::").partition(".")[0].strip() for name in titles(nodes, node)}

    wait_until(
        lambda: {"Denoiser", "TileDecoder"} <= stages_on(spot) and "Assembler" in stages_on(lasting), run
    )
    asked = {"Denoiser", "TileDecoder", "Assembler"}
    assert not asked & set().union(*map(stages_on, others)), "there was room where they were to be"
    lose(nodes, spot)
    finish(run)
    assert video_hashes(out) == undisturbed
    assert set(committed_chunks(out).values()) == {1}

"""A cluster that has a head and nothing else: a manifest makes it grow, and the nodes go when it is done.

Real are the autoscaler, the nodes' Rays, and the command; the nodes are on this machine, and their GPUs are
numbers that Ray counts.
"""

import sys
from pathlib import Path

import pytest
from autoscaled_head import Farm, autoscaled_head
from faulty_runs import undisturbed_hashes
from runs import (
    PATIENCE,
    command,
    committed_chunks,
    finish,
    manifest_rows,
    start,
    video_hashes,
    write_manifest,
)

ROOT = Path(__file__).resolve().parent.parent
NODES = 3
# The last one is at work long after the others, and needs one node then.
CHUNKS = {"s0": 3, "s1": 3, "s2": 3, "last": 22}
ROWS = [
    {"id": name, "prompt": f"a red circle {name}", "width": 128, "height": 64, "num_frames": 24 * chunks + 1}
    for name, chunks in CHUNKS.items()
]
# Chunks of seconds, so that there is work yet when a node has come.
SETTINGS = (
    "sampling.num_inference_steps=20",
    "sampling.chunk_size=25",
    "sampling.overlap_frames=8",
    "device.kind=cpu",
)
# A denoiser has a logical GPU, of which a node has one; the others fit beside it.
POOLS = (
    *("--denoisers", str(NODES), "--decoders", "1", "--gpus", str(NODES)),
    *("--set", "pools.gpu_shares={denoise = 1}", "--set", "pools.assemblers=1"),
    *("--set", "pools.idle_seconds=3"),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the videos of one process without Ray."""
    return undisturbed_hashes(tmp_path_factory.mktemp("in-process"), ROWS, SETTINGS)


def told(farm: Farm) -> str:
    """The curve, and the seconds for which Ray says that each node lived."""
    lives = [(node["end_time_ms"] - node["start_time_ms"]) / 1000 for node in farm.nodes()]
    steps = ", ".join(f"{nodes} at {seconds:.1f} s" for seconds, nodes in farm.curve)
    return f"nodes: {steps}; they lived for {lives} s\n"


@pytest.mark.slow
def test_a_manifest_takes_a_cluster_from_no_node_to_three_and_back(
    undisturbed: dict[str, str], tmp_path: Path
) -> None:
    manifest, out = write_manifest(tmp_path / "shots.jsonl", ROWS), tmp_path / "out"
    with autoscaled_head(ROOT, most=NODES + 2, cpus=4, idle_seconds=6) as farm:
        assert farm.look() == 0
        words = command(manifest, out, "--address", farm.head.gcs, *POOLS, settings=SETTINGS)
        run = start(words, {**farm.head.environment(), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"})
        farm.watch_until(lambda nodes: nodes == NODES or run.poll() is not None, PATIENCE)
        farm.watch_until(lambda nodes: run.poll() is not None, 3 * PATIENCE)
        finish(run)
        during = [nodes for _, nodes in farm.curve]
        farm.watch_until(lambda nodes: nodes == 0, PATIENCE)
        sys.stdout.write(told(farm))
        assert len(farm.nodes()) == NODES, "none came in vain, and none twice"
    assert max(during) == NODES > during[-1], during
    assert [row["status"] for row in manifest_rows(out)] == ["done"] * len(ROWS)
    assert committed_chunks(out) == {(name, n): 1 for name, chunks in CHUNKS.items() for n in range(chunks)}
    assert video_hashes(out) == undisturbed

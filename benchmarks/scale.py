"""The coordinator on simulated clusters: how near the best possible makespan, at what cost of its own.

    python benchmarks/scale.py [--gpus 10000] [--shots 100000] [--fifo] [--calls]

Shots of 3 to 12 chunks, five of 60, on GPUs in virtual time, with the real coordinator, pools and sizer. The
lower bound is max(longest chain, work of all stages by their shares of a GPU / GPUs). ``--fifo`` takes the
rows as they stand in the manifest, whatever their length. ``--calls`` counts Python's calls a chunk instead,
which must not depend on the number of shots.
"""

import argparse
import cProfile
import json
import pstats
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from actors.rehearsal import Rehearsal, Terms, rehearse
from cluster.capacity import Capacity, Space
from cluster.placement import Sizing
from ltx_ray.config import RenderConfig
from ltx_ray.manifest.index import index_manifest, long_rows, shots
from ltx_ray.planning.timing import Profile, StageTime
from ltx_ray.run import RunSpec
from ltx_ray.types import Stage

LONG, LONG_CHUNKS = 5, 60
NEW, FIRST = 64, 81  # frames that a chunk adds, and that the first has
CONFIG = {
    "sampling": {"chunk_size": 81, "overlap_frames": 16},
    # One slab is about a chunk's new frames, and one tile its whole picture.
    "decoding": {"slab_frames": 64, "temporal_halo": 1, "tile_bytes": 2**40},
    "pools": {"max_decoded_bytes": 2**50},
}
# Seconds of a task, whatever its size: a chunk of a minute, and a decode a third of it.
PROFILE = Profile(
    device="simulated",
    model="tiny",
    stages={
        Stage.CONDITION: StageTime(base=1.0),
        Stage.DENOISE: StageTime(base=60.0),
        Stage.DECODE: StageTime(base=20.0),
        Stage.ASSEMBLE: StageTime(base=2.0),
        Stage.FINISH: StageTime(base=1.0),
    },
)


def write_manifest(path: Path, number: int, seed: int) -> None:
    """``number`` shots; the long ones stand somewhere among the others."""
    luck = random.Random(seed)
    long = set(luck.sample(range(number), min(LONG, number // 20)))
    with path.open("w", encoding="utf-8") as file:
        for row in range(number):
            chunks = LONG_CHUNKS if row in long else luck.randint(3, 12)
            size = {"num_frames": FIRST + NEW * (chunks - 1), "width": 64, "height": 64}
            file.write(json.dumps({"id": f"s{row}", "prompt": "a tide", **size}) + "\n")


def run(gpus: int, number: int, *, fifo: bool = False, seed: int = 0) -> tuple[Rehearsal, dict[str, float]]:
    """One rehearsal, and its figures."""
    config = RenderConfig.model_validate(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "shots.jsonl"
        write_manifest(manifest, number, seed)
        index = index_manifest(str(manifest), config)
        spec = RunSpec.decide(config, f"{folder}/out", "cpu")
        sizing = Sizing(device="cuda", threads=1, config=config.pools)
        capacity = Capacity(*(((Space(128.0, 8.0),) * (gpus // 8),) * 2))
        placement = sizing.place(capacity)
        first = () if fifo else long_rows(index, placement.sizes[Stage.DENOISE])
        began = time.perf_counter()
        made = rehearse(
            spec,
            shots(str(manifest), config, index, first),
            PROFILE,
            sizing,
            Terms(capacity=capacity, start_seconds=30.0),
            total=index.num_rows,
            cost=(lambda row: 0.0) if fifo else index.cost,
            total_cost=index.total_cost,
        )
        took = time.perf_counter() - began
    work = sum(made.work[stage] * placement.gpus[stage] for stage in Stage)
    bound = max(made.longest[1], work / gpus)
    denoisers = made.held[Stage.DENOISE]
    return made, {
        "gpus": gpus,
        "shots": number,
        "chunks": made.chunks,
        "tasks": made.tasks,
        "makespan_s": made.makespan,
        "longest_chain_s": made.longest[1],
        "work_over_gpus_s": work / gpus,
        "over_the_bound": made.makespan / bound,
        "denoisers_busy": made.work[Stage.DENOISE] / denoisers if denoisers else 0.0,
        "simulated_in_s": took,
        "tasks_per_s": made.tasks / took,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def calls(gpus: int, number: int) -> dict[str, float]:
    """Python's calls for a chunk and all that belongs to it, and the functions with the most."""
    profile = cProfile.Profile()
    profile.enable()
    _, figures = run(gpus, number)
    profile.disable()
    stats = pstats.Stats(profile)
    return {"gpus": gpus, "shots": number, "calls_per_chunk": stats.total_calls / figures["chunks"]}  # type: ignore[attr-defined]


def main() -> None:
    """Print the figures, a line of JSON for each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--shots", type=int, default=100_000)
    parser.add_argument("--fifo", action="store_true", help="rows as they stand in the manifest")
    parser.add_argument("--calls", action="store_true", help="count calls a chunk at two numbers of shots")
    asked = parser.parse_args()
    if asked.calls:
        sizes = ((asked.gpus // 10, asked.shots // 10), (asked.gpus, asked.shots))
        found = (calls(gpus, number) for gpus, number in sizes)
    else:
        found = (run(asked.gpus, asked.shots, fifo=asked.fifo)[1] for _ in range(1))
    for figures in found:
        sys.stdout.write(json.dumps({key: round(value, 4) for key, value in figures.items()}) + "\n")


if __name__ == "__main__":
    main()

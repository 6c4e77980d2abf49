"""Memory as slopes over an idle baseline: what a manifest row costs, and what a frame costs.

    python benchmarks/memory.py rows [--json] [--rows 1000 100000]
    python benchmarks/memory.py media [--json] [--frames 300 3000]

``rows``: the real coordinator, ledger and publisher, on a real folder, over simulated pools in virtual time,
with one-chunk shots. Bytes a row are the growth of the peak of the resident memory from the fewer rows to the
more. ``media``: the assemble and finish stages over segments of 1080p video; their growth from the
first 300 frames to the last. Each measurement is a process of its own.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from actors.assembler import Assembler
from actors.coordinator import Coordinator
from actors.finisher import Finisher
from actors.publisher import Publisher
from actors.simulated_pool import Fate, run_virtually, simulated_pools
from ltx_ray.config import RenderConfig
from ltx_ray.decoding.blend import split_tail
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.media.probe import sha256_file
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.storage import Store
from ltx_ray.types import Artefact, Job, Shot, ShotPlan, Slab, Stage, TaskKey, Tile

MIB = 2**20
WORKERS = 256  # of each stage
Measure = Callable[..., dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("rows", "media"))
    parser.add_argument("--rows", type=int, nargs=2, default=(1_000, 100_000), metavar=("FEW", "MANY"))
    parser.add_argument("--frames", type=int, nargs=2, default=(300, 3_000), metavar=("FEW", "MANY"))
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    options = parser.parse_args()
    result = rows(*options.rows) if options.part == "rows" else media(*options.frames)
    if options.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        sys.stdout.writelines(f"{name:28} {value:>16,.1f}\n" for name, value in result.items())


class Peak:
    """The most memory that this process has had resident since the last look, in bytes, sampled."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._most = self.now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """Bytes at this moment."""
        return int(self._process.memory_info().rss)

    def take(self) -> int:
        """The peak; begins anew."""
        most, self._most = max(self._most, self.now()), self.now()
        return most

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._most = max(self._most, self.now())


def in_child(work: Measure, *arguments: Any) -> dict[str, float]:
    """``work`` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


# -- rows ----------------------------------------------------------------------------------------------


def rows(few: int, many: int) -> dict[str, float]:
    """Growth of the coordinator's memory from ``few`` rows to ``many``."""
    small, large = in_child(run_rows, few), in_child(run_rows, many)
    per_row = {
        f"bytes_per_row_{part}": (large[part] - small[part]) / (many - few)
        for part in ("running", "ending", "resuming")
    }
    return {
        **per_row,
        "tasks_per_second": large["tasks"] / large["seconds"],
        "rows_per_second": many / large["seconds"],
        "seconds_to_index": large["index_seconds"],
        "seconds_to_run": large["seconds"],
        "seconds_to_resume": large["resume_seconds"],
        "ledger_files": large["ledger_files"],
        "baseline_mib": large["baseline"] / MIB,
    }


def run_rows(count: int) -> dict[str, float]:
    """One run of ``count`` one-chunk shots; bytes are peaks above what an idle process has."""
    with tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
        manifest = Path(folder) / "shots.jsonl"
        with manifest.open("w") as file:
            for number in range(count):
                file.write(
                    json.dumps({"id": f"shot-{number:07d}", "prompt": "a tide", "num_frames": 9}) + "\n"
                )
        config = RenderConfig.model_validate({"defaults": {"width": 64, "height": 64}})
        spec = RunSpec.decide(config, f"{folder}/out", "cpu")
        peak = Peak()
        baseline = peak.take()
        began = time.perf_counter()
        measured = run_virtually(_run(spec, str(manifest), peak))
        resumed = time.perf_counter()
        run_virtually(_run(spec, str(manifest), peak))
        return {
            "running": measured["running"] - baseline,
            "ending": measured["ending"] - baseline,
            "resuming": peak.take() - baseline,
            "tasks": measured["tasks"],
            "seconds": measured["ended_at"] - began - measured["index_seconds"],
            "index_seconds": measured["index_seconds"],
            "resume_seconds": time.perf_counter() - resumed,
            "ledger_files": len(list(Path(folder, "out/ledger").rglob("*.jsonl"))),
            "baseline": baseline,
        }


async def _run(spec: RunSpec, manifest: str, peak: Peak) -> dict[str, float]:
    began = time.perf_counter()
    index = index_manifest(manifest, spec.config)
    index_seconds = time.perf_counter() - began
    ledger, history = Ledger.open(Store(spec.out), inline=True)
    publisher = _Ending(spec.out, peak)
    coordinator = Coordinator(
        spec,
        shots(manifest, spec.config, index),
        simulated_pools(dict.fromkeys(Stage, WORKERS), lambda job: Fate(seconds=1.0)),
        ledger,
        history,
        publisher,
        total=index.num_rows,
        cost=index.cost,
        total_cost=index.total_cost,
        max_active=2 * WORKERS,
    )
    summary = await coordinator.run()
    assert summary.progress.done == index.num_rows
    return {
        "running": publisher.running,
        "ending": peak.take(),
        "ended_at": time.perf_counter(),
        "index_seconds": index_seconds,
        "tasks": sum(stage.done for stage in summary.progress.stages.values()),
    }


class _Ending(Publisher):
    """The publisher, which is the last to work: what was before is the run itself."""

    def __init__(self, out: str, peak: Peak) -> None:
        super().__init__(out, inline=True)
        self._peak = peak
        self.running = 0

    async def finish(self, results: Any, **how: Any) -> None:
        """As the publisher does, after a look at the peak."""
        self.running = self._peak.take()
        await super().finish(results, **how)


# -- media ---------------------------------------------------------------------------------------------


def media(few: int, many: int) -> dict[str, float]:
    """Growth of the stages' memory from the first ``few`` frames to the ``many``."""
    with tempfile.TemporaryDirectory(prefix="ltx-ray-") as folder:
        assembled = in_child(run_assembler, folder, few, many)
        silent = [in_child(run_finisher, folder, many, count, False) for count in (few, many)]
        sounding = [in_child(run_finisher, folder, many, count, True) for count in (few, many)]
    return {
        "assemble_growth_mib": assembled["growth"] / MIB,
        "assemble_peak_mib": assembled["peak"] / MIB,
        "assemble_frames_per_second": assembled["frames"] / assembled["seconds"],
        "finish_growth_mib": (silent[1]["peak"] - silent[0]["peak"]) / MIB,
        "finish_with_sound_growth_mib": (sounding[1]["peak"] - sounding[0]["peak"]) / MIB,
        "finish_peak_mib": sounding[1]["peak"] / MIB,
        "finish_frames_per_second": sounding[1]["frames"] / sounding[1]["seconds"],
    }


def run_assembler(folder: str, few: int, many: int) -> dict[str, float]:
    """Encode the segments of one shot of ``many`` frames of 1080p, one after the other."""
    spec, plan = planned(folder, many)
    assembler = Assembler(spec)
    peak, began, frames, first = Peak(), time.perf_counter(), 0, 0
    baseline = peak.take()
    tails: list[Any] = []
    for slab in plan.slabs:
        tiles = [split_tail(pixels_of(slab, tile), slab) for tile in slab.tiles]
        task = next(task for task in plan.tasks if task.key == TaskKey(Stage.ASSEMBLE, slab.index))
        job = Job(shot=plan.shot, task=task, frame=plan.frame, attempt=1, output=segment_name(slab))
        assembler.work(job, [body for body, _ in tiles] + tails)
        tails = [tail.copy() for _, tail in tiles]
        tiles.clear()
        frames += slab.num_frames
        if frames <= few:
            first = max(first, peak.take())
    last = peak.take()
    return {
        "growth": last - first,
        "peak": last - baseline,
        "frames": frames,
        "seconds": time.perf_counter() - began,
    }


def run_finisher(folder: str, many: int, count: int, with_sound: bool) -> dict[str, float]:
    """Join about ``count`` frames of the segments that ``run_assembler`` made of ``many``."""
    spec, plan = planned(folder, many)
    store = Store(spec.out)
    slabs = [slab for slab in plan.slabs if slab.first_frame + slab.num_frames <= count]
    frames = tuple(slab.num_frames for slab in slabs)
    sound = write_sound(Path(folder) / f"{count}.wav", sum(frames) / plan.shot.fps) if with_sound else None
    names = [segment_name(slab) for slab in slabs]
    artefacts = [Artefact(name=n, sha256=sha256_file(store.local(n)), bytes=0) for n in names]
    job = Job(
        shot=replace(plan.shot, num_frames=sum(frames), audio=sound),
        task=plan.tasks[-1],
        frame=plan.frame,
        attempt=1,
        output=f"videos/{count}.mp4",
        segment_frames=frames,
    )
    peak = Peak()
    baseline, began = peak.take(), time.perf_counter()
    Finisher(spec).work(job, artefacts)
    return {
        "peak": peak.take() - baseline,
        "frames": sum(frames),
        "seconds": time.perf_counter() - began,
    }


def planned(folder: str, frames: int) -> tuple[RunSpec, ShotPlan]:
    """A shot of so many frames of 1080p."""
    manifest = Path(folder) / "one.jsonl"
    row = {"id": "one", "prompt": "a tide", "num_frames": frames, "width": 1920, "height": 1080}
    manifest.write_text(json.dumps(row) + "\n")
    spec = RunSpec.decide(RenderConfig(), f"{folder}/out", "cpu")
    index = index_manifest(str(manifest), spec.config)
    shot = next(shots(str(manifest), spec.config, index))
    assert isinstance(shot, Shot)
    return spec, plan_shot(shot, spec.plan_settings())


def pixels_of(slab: Slab, tile: Tile) -> NDArray[np.uint8]:
    """A decoded tile ``[t, h, w, 3]``: slanting bars that move."""
    y = np.arange(tile.y.out_start, tile.y.out_stop)[:, None, None]
    x = np.arange(tile.x.out_start, tile.x.out_stop)[None, :, None]
    picture = (y + 2 * x + np.array([0, 60, 120])).astype(np.uint8)
    pixels = np.empty((slab.t.size, *picture.shape), np.uint8)
    for frame in range(slab.t.size):
        np.add(picture, np.uint8((slab.t.out_start + frame) % 256), out=pixels[frame])
    return pixels


def segment_name(slab: Slab) -> str:
    """Where ``slab`` lies once it is encoded, relative to OUT."""
    return f"segments/{slab.index:04d}.mp4"


def write_sound(path: Path, seconds: float) -> str:
    """A stereo WAV file of 16-bit noise at 48 kHz, written second by second."""
    noise = np.random.default_rng(0).integers(-9000, 9000, (48_000, 2), np.int16).tobytes()
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 48_000, 0, "NONE", ""))
        for _ in range(int(seconds) + 1):
            file.writeframes(noise)
    return str(path)


if __name__ == "__main__":
    main()

"""A soak: a thousand shots of a second in one run. Does anything grow with the number of shots?

    python benchmarks/soak.py [--shots 1000] [--output out/soak]

Sampled each second from outside, while ``ltx-ray render`` works on a Ray of its own: resident memory of the
coordinator, memory of the object store, open files and processes of the whole run. OUTPUT/soak.csv has the
samples, OUTPUT/soak.png the curves, OUTPUT/soak.json how each figure changed from the second quarter of the
run to the last.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import psutil

from ltx_ray.ledger.lease import read_lease
from ltx_ray.storage import Store

_EVERY = 1.0  # seconds between samples
_SETTINGS = ("sampling.num_inference_steps=2",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a run."""

    seconds: float  # since it began
    shots: int  # that have ended
    coordinator_bytes: int  # resident, of its own
    store_bytes: int  # of Ray's object store, in use
    files: int  # open, of all processes
    processes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Render, sample, and write down."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shots", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=Path("out/soak"))
    asked = parser.parse_args(arguments)
    if (asked.output / "out").exists():
        parser.error(f"{asked.output / 'out'} is there already: name a new --output")
    samples = soak(asked.output, asked.shots)
    figures = growth(samples)
    (asked.output / "soak.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    draw(samples, asked.output / "soak.png")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


def soak(folder: Path, shots: int) -> list[Sample]:
    """Render ``shots`` shots of one second into ``folder``/out, and look on."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "shots.jsonl"
    rows = (
        {"id": f"s{n}", "prompt": f"a red circle {n}", "width": 32, "height": 32, "num_frames": 24}
        for n in range(shots)
    )
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [sys.executable, "-m", "jobs.cli", "render", str(manifest), "-o", str(folder / "out")]
    words += [part for setting in _SETTINGS for part in ("--set", setting)]
    samples = []
    with (folder / "render.log").open("w") as log:
        run = subprocess.Popen(words, stdout=log, stderr=log)
        began = time.monotonic()
        while run.poll() is None:
            sample = _sample(run.pid, folder / "out", time.monotonic() - began)
            if sample is not None:
                samples.append(sample)
            time.sleep(_EVERY)
    if run.returncode:
        raise SystemExit(f"the run ended with {run.returncode}: see {folder / 'render.log'}")
    with (folder / "soak.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)
    return samples


def _sample(pid: int, out: Path, seconds: float) -> Sample | None:
    """None until there is a coordinator, or where the run has just ended."""
    coordinator = store = files = processes = 0
    try:
        all_of_it = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    for process in all_of_it:
        try:
            title = " ".join(process.cmdline())
            files += process.num_fds()
            memory = process.memory_info()
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
        processes += 1
        if title.startswith("ray::Host"):
            coordinator = memory.rss - memory.shared
        if "raylet" in title.split(" ")[0]:
            store = memory.shared
    lease = read_lease(Store(str(out))) if coordinator else None
    if lease is None or not lease.progress:
        return None
    progress = lease.progress
    shots = sum(progress[name] for name in ("done", "failed", "rejected", "cancelled"))
    return Sample(
        seconds=round(seconds, 2),
        shots=shots,
        coordinator_bytes=coordinator,
        store_bytes=store,
        files=files,
        processes=processes,
    )


def growth(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Of each figure its median in the second quarter of the run and in the last, and their ratio."""
    most = samples[-1].shots
    second = [each for each in samples if most / 4 <= each.shots < most / 2]
    last = [each for each in samples if 3 * most / 4 <= each.shots]
    found = {}
    for name in ("coordinator_bytes", "store_bytes", "files", "processes"):
        before = float(np.median([getattr(each, name) for each in second]))
        after = float(np.median([getattr(each, name) for each in last]))
        found[name] = {"before": before, "after": after, "ratio": after / before if before else 1.0}
    found["run"] = {"shots": float(most), "seconds": samples[-1].seconds}
    return found


def draw(samples: Sequence[Sample], path: Path) -> None:
    """The curves."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 6), layout="constrained")
    shots = [each.shots for each in samples]
    for axis, (name, unit, scale) in zip(
        axes.flat,
        (
            ("coordinator_bytes", "coordinator, MiB of its own", 2**20),
            ("store_bytes", "object store, MiB", 2**20),
            ("files", "open files of the run", 1),
            ("processes", "processes of the run", 1),
        ),
        strict=True,
    ):
        values = [getattr(each, name) / scale for each in samples]
        axis.plot(shots, values)
        axis.set(xlabel="shots that have ended", title=unit, ylim=(0, 1.1 * max(values)))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()

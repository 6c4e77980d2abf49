"""What the coordinator costs: the real one, over real Ray actors, whose work is to sleep.

    python benchmarks/farm.py busy [--shots 96] [--json]
    python benchmarks/farm.py calls [--shots 800] [--profile] [--json]

A Ray of its own with 16 logical GPUs on this machine. Everything is as in ``ltx-ray render`` but for the work
of the stages: manifest, plans, pools, crews, the sizer, Ray's calls and object references, artefacts written
by the actors, and ledger, lease and publisher on a local OUT. Shots are of 1080p and 3 to 12 chunks.

``busy``: stages take a tenth of the time that they would take on an H200, so that the coordinator has ten
times as much to do. How much of their time denoisers are at work between the first chunk and the last: from
when each is ready, and an actor that is let go counts as idle from then on. ``calls``: stages take no time.
How many stage calls there are in a second from when all actors are ready until the last tenth, and what the
coordinator's process uses of a core meanwhile. ``--profile`` tells where its time goes (and slows it down).
"""

import argparse
import asyncio
import cProfile
import io
import json
import os
import pstats
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray

from actors.host import Host, RenderJob
from actors.progress import Summary
from actors.ray_pool import RaySite
from actors.work import PARTS, Made, StageActor
from cluster.census import census
from cluster.node_probe import versions
from cluster.placement import Sizing
from ltx_ray.config import RenderConfig
from ltx_ray.run import RunSpec, claim
from ltx_ray.shard import WHOLE
from ltx_ray.storage import Store
from ltx_ray.types import Artefact, Job, Stage

GPUS, CPUS = 16, 64  # logical
PAYLOAD = bytes(4096)
# Of one task on an H200 at 1080p, 40 steps with guidance: seconds, by the work in docs/benchmarks.md.
SECONDS = {
    Stage.CONDITION: 0.5,
    Stage.DENOISE: 36.0,
    Stage.DECODE: 0.6,
    Stage.ASSEMBLE: 2.0,
    Stage.FINISH: 0.5,
}
SPREAD = 0.2  # of a task's seconds, both ways


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("busy", "calls"))
    parser.add_argument("--shots", type=int, help="96 of busy, 800 of calls")
    parser.add_argument("--scale", type=float, default=0.1, help="of the stages' seconds, in busy")
    parser.add_argument("--profile", action="store_true", help="of the coordinator's process")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    asked = parser.parse_args()
    is_busy = asked.part == "busy"
    shots = asked.shots or (96 if is_busy else 800)
    with tempfile.TemporaryDirectory(prefix="ltx-farm-") as folder, own_ray():
        if is_busy:
            run = render(Path(folder), shots, asked.scale, RenderConfig(), asked.profile)
            found = busy(run)
        else:
            pools = {"denoisers": 8, "decoders": 4, "assemblers": 4, "finishers": 2, "conditioners": 1}
            config = RenderConfig.model_validate({"pools": pools})
            run = render(Path(folder), shots, 0.0, config, asked.profile)
            found = calls(run) | asyncio.run(bare(2000))
    if asked.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        sys.stdout.writelines(f"{name:32} {value:>12,.3f}\n" for name, value in found.items())
    sys.stdout.write(run.profile)


@contextmanager
def own_ray() -> Iterator[None]:
    """A Ray with logical GPUs."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    with tempfile.TemporaryDirectory(prefix="ltx-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=CPUS,
            num_gpus=GPUS,
            object_store_memory=2**29,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        try:
            with redirect_stdout(sys.stderr):  # what Ray says by itself
                yield
        finally:
            ray.shutdown()


# -- actors that sleep ---------------------------------------------------------------------------------


class Sleeper(StageActor):
    """An actor of any stage: sleeps, hands small payloads on, and writes files where its stage does."""

    def __init__(self, run: RunSpec, *, scale: float, log: str) -> None:
        super().__init__(run)
        self._scale, self._log = scale, (Path(log) / f"{os.getpid()}.csv").open("a", buffering=1)
        self._ready = time.time()

    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """As long as the stage takes, give or take what the task's name says."""
        began, stage = time.time(), job.task.key.stage
        for source in inputs:
            if isinstance(source, Artefact):
                self.read(source)
        luck = random.Random(f"{job.shot.id}/{job.task.key}").uniform(-SPREAD, SPREAD)
        time.sleep(self._scale * SECONDS[stage] * (1 + luck))
        artefact = self.save(job, PAYLOAD) if job.output else None
        self._log.write(f"{stage.value},{self._ready},{began},{time.time()}\n")
        parts = tuple(PAYLOAD for _ in range(PARTS[stage]))
        return Made(artefact=artefact, parts=parts, facts={"num_frames": 1})


def sleepers(scale: float, log: str, stage: Stage) -> Callable[[RunSpec], Sleeper]:
    """What makes the actors of a stage."""
    return partial(Sleeper, scale=scale, log=log)


class Watched(Host):
    """A host that tells which process it is, and where its time goes."""

    def pid(self) -> int:
        return os.getpid()

    async def profiled(self) -> tuple[Summary, str]:
        """As ``run``, and the profile of the loop's thread as text."""
        profile, text = cProfile.Profile(), io.StringIO()
        profile.enable()
        summary = await self.run()
        profile.disable()
        stats = pstats.Stats(profile, stream=text).strip_dirs()
        stats.sort_stats("tottime").print_stats(30)
        stats.sort_stats("cumtime").print_stats(45)
        return summary, text.getvalue()


# -- a run ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What was seen of a run. Times are seconds of the clock."""

    calls: dict[int, tuple[str, float, list[tuple[float, float]]]]  # pid -> stage, ready, (begin, end)
    processor: list[tuple[float, float]]  # time, seconds that the coordinator's process has used
    machine: list[float]  # of both cores, per cent that were used in each sample
    summary: Summary
    profile: str


def render(folder: Path, shots: int, scale: float, config: RenderConfig, profile: bool) -> Run:
    """Render so many shots by actors that sleep."""
    log, out, manifest = folder / "log", folder / "out", folder / "shots.jsonl"
    log.mkdir()
    luck = random.Random(0)
    with manifest.open("w") as file:
        for number in range(shots):
            frames = 121 + 104 * (luck.randint(3, 12) - 1)
            row = {"id": f"s{number}", "prompt": "a tide", "width": 1920, "height": 1080}
            file.write(json.dumps({**row, "num_frames": frames}) + "\n")
    spec = RunSpec.decide(config, str(out), "cuda")
    run_hash = claim(Store(str(out)), spec, WHOLE)
    sizing = Sizing(device="cuda", threads=1, config=config.pools)
    job = RenderJob(
        manifest=str(manifest),
        run=spec,
        sizing=sizing,
        placement=sizing.place(census().capacity),
        owner="farm",
        command=b"{}",
    )
    site = RaySite(versions=versions(), run_hash=run_hash, actors=partial(sleepers, scale, str(log)))
    host: Any = ray.remote(Watched).options(num_cpus=0, max_restarts=0).remote(job, site)
    process = psutil.Process(ray.get(host.pid.remote()))
    ended = host.profiled.remote() if profile else host.run.remote()
    processor, machine = [], []
    while not ray.wait([ended], timeout=0.5)[0]:
        used = process.cpu_times()
        processor.append((time.time(), used.user + used.system))
        machine.append(psutil.cpu_percent())
    found = ray.get(ended)
    summary, text = found if profile else (found, "")
    ray.kill(host)
    assert summary.progress.done == shots, summary
    return Run(calls=read(log), processor=processor, machine=machine, summary=summary, profile=text)


def read(log: Path) -> dict[int, tuple[str, float, list[tuple[float, float]]]]:
    """What the actors have written down, by process."""
    found: dict[int, tuple[str, float, list[tuple[float, float]]]] = {}
    for path in log.glob("*.csv"):
        for line in path.read_text().splitlines():
            stage, ready, began, ended = line.split(",")
            told = found.setdefault(int(path.stem), (stage, float(ready), []))
            told[2].append((float(began), float(ended)))
    return found


def busy(run: Run) -> dict[str, float]:
    """How busy the denoisers were."""
    denoisers = [each for each in run.calls.values() if each[0] == Stage.DENOISE]
    spans = [span for *_, own in denoisers for span in own]
    first, last = min(begin for begin, _ in spans), max(end for _, end in spans)
    worked = sum(end - begin for begin, end in spans)
    there = sum(last - max(first, ready) for _, ready, _ in denoisers)
    idle = {
        "before_its_first_chunk": sum(min(own)[0] - max(first, ready) for _, ready, own in denoisers),
        "between_chunks": sum(
            max(own)[1] - min(own)[0] - sum(e - b for b, e in own) for *_, own in denoisers
        ),
        "after_its_last_chunk": sum(last - max(own)[1] for *_, own in denoisers),
    }
    gaps = [b[0] - a[1] for *_, own in denoisers for a, b in pairwise(own)]
    span = last - first
    return {
        "denoisers": len(denoisers),
        "chunks": len(spans),
        "seconds_from_first_to_last_chunk": span,
        "busy_percent": 100 * worked / there,
        **{f"idle_percent_{when}": 100 * seconds / there for when, seconds in idle.items()},
        "busy_percent_with_their_starts": 100 * worked / (len(denoisers) * span),
        "ready_seconds_after_first_chunk": max(max(ready - first, 0.0) for _, ready, _ in denoisers),
        "gap_milliseconds_median": 1000 * float(np.median(gaps)),
        "gap_milliseconds_99": 1000 * float(np.quantile(gaps, 0.99)),
        "calls_per_second": sum(len(own) for *_, own in run.calls.values()) / span,
        "machine_percent": float(np.mean(run.machine)),
    }


def calls(run: Run) -> dict[str, float]:
    """How many calls a second there were from when all actors were ready, but for the last tenth."""
    ends = sorted(end for *_, own in run.calls.values() for _, end in own)
    begin, end = max(ready for _, ready, _ in run.calls.values()), ends[-1 - len(ends) // 10]
    if begin >= end:
        raise SystemExit("the last actor was ready after nine tenths of the calls: ask for more --shots")
    clock, used = zip(*run.processor, strict=True)
    processor = float(np.interp(end, clock, used) - np.interp(begin, clock, used))
    number = sum(begin < each <= end for each in ends)
    return {
        "calls": number,
        "calls_per_second": number / (end - begin),
        "coordinator_core_percent": 100 * processor / (end - begin),
        "coordinator_milliseconds_per_call": 1000 * processor / number,
        "calls_per_second_of_a_core": number / processor,
        "shots_per_second": run.summary.progress.done / len(ends) * number / (end - begin),
        "ready_seconds_after_first_call": begin - ends[0],
        "machine_percent": float(np.mean(run.machine)),
    }


# -- Ray alone -----------------------------------------------------------------------------------------


class Nothing:
    """An actor."""

    def run(self, *inputs: Any) -> tuple[bytes, ...]:
        return (b"", PAYLOAD)


async def bare(number: int) -> dict[str, float]:
    """Calls of actors that do nothing, each called again when it has answered: what Ray itself costs."""
    made: Any = ray.remote(Nothing)
    actors = [made.options(num_cpus=0).remote() for _ in range(8)]

    async def call(actor: Any, times: int) -> None:
        for _ in range(times):
            receipt, _ = actor.run.options(num_returns=2).remote(PAYLOAD)
            await receipt

    await asyncio.gather(*(call(actor, 10) for actor in actors))
    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call(actor, number // len(actors)) for actor in actors))
    return {
        "bare_ray_calls_per_second": number / (time.perf_counter() - began),
        "bare_ray_milliseconds_per_call": 1000 * (time.process_time() - used) / number,
    }


if __name__ == "__main__":
    main()

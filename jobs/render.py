"""``ltx-ray render``: a manifest in, finished videos out. Finds Ray, then watches the coordinator."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Protocol

from actors.host import Host, RenderJob
from actors.local_pool import LocalSite
from actors.progress import Progress, Summary
from cluster.capacity import Capacity, Space
from cluster.facts import Gpu
from cluster.placement import Placement, Sizing, accelerator_of, device_of
from jobs.memory_check import cards_of, check_memory
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, WorkerLostError
from ltx_ray.manifest.first_rows import first_shots
from ltx_ray.manifest.read import folder_of, read_rows
from ltx_ray.run import RunSpec, claim, keep_accelerator, kept_accelerator
from ltx_ray.shard import WHOLE, Shard, command_file
from ltx_ray.storage import Store
from ltx_ray.types import Shot

Shots = Callable[[], Iterable[Shot]]  # the first ones of a manifest
Look = Callable[
    [RunSpec, float, Placement, Shots], object
]  # at what a run will work on; raises PreflightError
IN_PROCESS = "in-process"
_LOOK_SECONDS = 0.25  # between two looks at the run's progress
_STOP_SECONDS = 3.0  # for the coordinator to say good-bye after Ctrl-C
_COORDINATORS = 5  # that may die before the command gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderRequest:
    """What the command line asked for."""

    manifest: str
    out: str
    config: RenderConfig
    address: str
    limit: int | None = None
    shard: Shard = WHOLE


class Watcher(Protocol):
    """Shows a run to a person while it goes on."""

    def update(self, progress: Progress | None) -> None:
        """Show the progress; None while the run is being set up."""


class Running(Protocol):
    """A host, wherever it lives."""

    async def run(self) -> Summary:
        """Render."""

    async def progress(self) -> Progress | None:
        """How far it is."""

    async def stop(self) -> None:
        """Stop soon."""


def _told(request: RenderRequest) -> bytes:
    """What was asked, for commands that go on with a run without being told how."""
    data = {**asdict(request), "config": request.config.model_dump(mode="json"), "shard": str(request.shard)}
    return (json.dumps(data, indent=2) + "\n").encode()


def remembered(out: str, shard: Shard) -> RenderRequest:
    """The render command that ``shard`` of ``out`` was last written by, for all of its rows. Raises
    ConfigError where there was none."""
    name = command_file(shard.name)
    try:
        data = json.loads(Store(out).read(name))
    except FileNotFoundError as error:
        raise ConfigError(
            f"OUT must be the --output of a run, got {out}: there is no {name} in it"
        ) from error
    config = RenderConfig.model_validate(data["config"])
    return RenderRequest(**{**data, "out": out, "config": config, "limit": None, "shard": shard})


def render(request: RenderRequest, watcher: Watcher) -> Summary:
    """Render ``request`` to its end, or to a signal (``Summary.interrupted``). Raises LtxRayError."""
    if request.address == IN_PROCESS:
        here = Space(float(os.cpu_count() or 1), float(len(_local_cards())))
        job, _ = _job(request, Capacity((here,), (here,)), _look_here)
        return asyncio.run(_watch(lambda: Host(job, LocalSite()), watcher))
    return _render_on_ray(request, watcher)


def _render_on_ray(request: RenderRequest, watcher: Watcher) -> Summary:
    # Only here: --help, and --address in-process, need no Ray.
    from actors.ray_pool import RaySite
    from actors.remote_host import RemoteHost
    from cluster.census import census
    from cluster.connect import connected
    from cluster.node_probe import versions
    from jobs.preflight import look

    here = Capacity((Space(float(os.cpu_count() or 1)),))
    wanted = _sizing(request.config, "cpu").place(here).total_cpus
    with connected(request.address, wanted) as seen:
        store = Store(request.out)
        accelerator = accelerator_of(request.config, seen, kept_accelerator(store))
        capacity = census(accelerator).capacity
        job, run_hash = _job(request, capacity, partial(look, accelerator))
        if job.run.device == "cuda" and accelerator is not None:
            keep_accelerator(store, accelerator)
        site = RaySite(
            versions=versions(),
            run_hash=run_hash,
            accelerator=accelerator,
            grows=request.config.pools.max_gpus is not None,
        )
        return asyncio.run(_watch(lambda: RemoteHost(job, site), watcher))


def _job(request: RenderRequest, capacity: Capacity, look: Look) -> tuple[RenderJob, str]:
    """What is to be done, and the hash of OUT's run.json. Nothing is written before all is found well."""
    sizing = _sizing(request.config, device_of(request.config, capacity.gpus))
    next(iter(read_rows(request.manifest)))  # one that cannot be read is told first
    spec = RunSpec.decide(request.config, request.out, sizing.device, folder_of(request.manifest))
    shots = partial(first_shots, request.manifest, request.config, request.limit)
    placement = sizing.place(capacity)
    look(spec, sizing.gpus(capacity), placement, shots)
    run_hash = claim(Store(request.out), spec, request.shard)
    job = RenderJob(
        manifest=request.manifest,
        run=spec,
        sizing=sizing,
        placement=placement,
        owner=uuid.uuid4().hex,
        command=_told(request),
        limit=request.limit,
        shard=request.shard,
    )
    return job, run_hash


def _look_here(run: RunSpec, gpus: float, placement: Placement, shots: Shots) -> None:
    """In one process there are no nodes, but perhaps GPUs."""
    if run.device == "cuda" and (cards := cards_of(_local_cards(), None, gpus)):
        check_memory(run, placement, cards, shots())


def _sizing(config: RenderConfig, device: str) -> Sizing:
    return Sizing(device=device, threads=config.device.threads, config=config.pools)


async def _watch(make: Callable[[], Running], watcher: Watcher) -> Summary:
    """Run until the end, a signal, or too many lost coordinators; a new one goes on where one was lost."""
    stop = asyncio.Event()
    signals: list[int] = []

    def interrupt(number: int) -> None:
        signals.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    for left in reversed(range(_COORDINATORS)):
        try:
            summary = await _watch_one(make(), watcher, stop)
            return replace(summary, by_ctrl_c=signal.SIGINT in signals)
        except WorkerLostError:
            if not left:
                raise
    raise AssertionError("the loop returns or raises")


async def _watch_one(running: Running, watcher: Watcher, stop: asyncio.Event) -> Summary:
    work = asyncio.ensure_future(running.run())
    stopping = asyncio.ensure_future(stop.wait())
    progress: Progress | None = None
    try:
        while not work.done() and not stopping.done():
            await asyncio.wait({work, stopping}, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                progress = await running.progress() or progress
                watcher.update(progress)
        if not work.done():
            await asyncio.wait_for(running.stop(), _STOP_SECONDS)
            await asyncio.wait({work}, timeout=_STOP_SECONDS)
        if not work.done():
            return _interrupted(progress)
        summary = await work
        watcher.update(summary.progress)
        return summary
    except TimeoutError:
        return _interrupted(progress)
    finally:
        work.cancel()
        stopping.cancel()


def _interrupted(progress: Progress | None) -> Summary:
    """What is known of a run whose coordinator did not answer in time."""
    return Summary(progress=progress or Progress.none(), interrupted=True, failures=(), cpu_seconds={})


def _local_cards() -> list[Gpu]:
    import torch

    if not torch.cuda.is_available():
        return []
    found = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [Gpu(name=each.name, memory=each.total_memory) for each in found]

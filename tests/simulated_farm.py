"""A farm in virtual time: the real coordinator, pools, ledger and publisher over workers that sleep.

What becomes of their work is decided, and what must hold is watched, by ``simulated_world``.
"""

import asyncio
import io
import itertools
import json
import random
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fragile_store import FragileFileSystem
from simulated_world import Cut, Row, World

from actors.coordinator import Coordinator
from actors.nodes import Nodes
from actors.observer import Observer
from actors.pool import Pool
from actors.progress import Summary
from actors.publisher import Publisher
from actors.simulated_pool import SimulatedWorker, run_virtually
from actors.work import Done
from actors.worker import Worker
from cluster.placement import Placement
from ltx_ray.errors import WorkerLostError
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.manifest.row import RowError
from ltx_ray.storage import Store
from ltx_ray.types import Job, Shot, Stage

Rows = Iterator[Shot | RowError]
Through = Callable[[Rows], Rows]
_numbers = itertools.count()


class WatchedWorker:
    """A simulated worker that tells the world when it begins and ends."""

    def __init__(self, stage: Stage, world: World, node: str) -> None:
        self._world = world
        self._stage = stage
        self.node = node

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """As SimulatedWorker.call."""
        try:
            self._world.check_call(job, inputs)
        except AssertionError as error:
            self._world.broken.append("".join(traceback.format_exception(error)))
            raise
        self._world.count_call()
        fate = self._world.fate(job, inputs, self.node)
        done: Done | None = None
        try:
            done = await SimulatedWorker(self._stage, lambda _: fate).call(job, inputs)
        finally:
            done = self._world.end_call(job, done)
        assert done is not None
        return done

    def close(self) -> None:
        """Nothing to let go of."""


class WatchedLauncher:
    """Makes watched workers."""

    def __init__(self, stage: Stage, world: World) -> None:
        self._stage = stage
        self._world = world
        self._luck = random.Random(f"{world.seed}/{stage}")
        self._launched = itertools.count()

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> Worker:
        """A worker, after the time that its start takes, or none."""
        await asyncio.sleep(self._world.start_seconds)
        if self._luck.random() < self._world.odds.launch_loss:
            raise WorkerLostError("simulated loss at the start")
        places = [place for place in self._world.places if place not in avoided]
        return WatchedWorker(self._stage, self._world, places[next(self._launched) % len(places)])


def write_manifest(path: Any, rows: Sequence[Row]) -> None:
    """Write the rows as JSONL; row ``i`` has the id ``s<i>``."""
    lines = []
    for number, row in enumerate(rows):
        # 5 latents are one chunk, and each further chunk adds 3.
        frames = 8 * (3 * row.chunks + 1) + 1 if row.chunks else -1
        lines.append(
            json.dumps(
                {
                    **{"id": f"s{number}", "prompt": "a tide", "num_frames": frames},
                    **{"width": row.size, "height": row.size, "priority": row.priority},
                }
            )
        )
    path.write_text("\n".join(lines) + "\n")


def fresh_url() -> str:
    """An OUT that no other test has."""
    return f"fragile://out-{next(_numbers)}"


def render_once(
    world: World,
    manifest: str,
    sizes: dict[Stage, int],
    max_active: int,
    cut: Cut | None = None,
    through: Through = iter,
    observer: Observer | None = None,
) -> Summary:
    """One call of the command. Raises what it raises; checks that nothing of it is left behind.

    The coordinator gets the manifest's rows as they come ``through``, and tells ``observer``.
    """
    try:
        return run_virtually(_call(world, manifest, sizes, max_active, cut, through, observer))
    finally:
        FragileFileSystem.mend()
        assert not world.broken, world.broken[0]


async def _call(
    world: World,
    manifest: str,
    sizes: dict[Stage, int],
    max_active: int,
    cut: Cut | None,
    through: Through,
    observer: Observer | None,
) -> Summary:
    index = index_manifest(manifest, world.spec.config)
    ledger, history = Ledger.open(Store(world.spec.out), inline=True)
    nodes = Nodes()
    pools = {stage: Pool(stage, WatchedLauncher(stage, world), sizes[stage], nodes) for stage in Stage}
    world.coordinator = Coordinator(
        world.spec,
        through(shots(manifest, world.spec.config, index)),
        pools,
        ledger,
        history,
        Publisher(world.spec.out, inline=True),
        nodes=nodes,
        shares=Placement(
            sizes=sizes,
            cpus=dict.fromkeys(Stage, 1.0),
            gpus={stage: 0.5 * (stage in (Stage.DENOISE, Stage.DECODE)) for stage in Stage},
        ),
        observer=observer,
        total=index.num_rows,
        cost=index.cost,
        total_cost=index.total_cost,
        max_active=max_active,
    )
    world.begin_call(ledger, cut)
    world.driver = asyncio.ensure_future(world.coordinator.run())
    is_complete = False
    try:
        summary = await world.driver
        is_complete = not summary.interrupted
    finally:
        FragileFileSystem.mend()
        check_nothing_left(world.coordinator, pools, is_complete=is_complete)
        world.read_ledger()
    return summary


def check_nothing_left(coordinator: Coordinator, pools: dict[Stage, Pool], *, is_complete: bool) -> None:
    """No task, worker, future or byte is left when a coordinator has returned."""
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    left = [task for task in tasks if not task.done()]
    assert not left, left
    for pool in pools.values():
        state = pool.state()
        assert (state.queued, state.running, state.workers, state.launching) == (0, 0, 0, 0)
    assert not coordinator._dispatcher._in_flight
    if is_complete:
        assert not coordinator._active
        assert coordinator._dispatcher.is_idle


def output_rows(out: str) -> list[dict[str, Any]]:
    """All rows of the output manifest, read by pyarrow."""
    fs, root = fsspec.core.url_to_fs(out)
    paths = sorted(fs.glob(f"{root}/manifest/part-*.parquet"))
    tables = [pq.read_table(io.BytesIO(fs.cat_file(path))) for path in paths]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows

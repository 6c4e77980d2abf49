"""Sets a coordinator up from what the command line asked, in whichever process it is to live."""

import asyncio
from dataclasses import dataclass
from itertools import islice

from actors.coordinator import Coordinator
from actors.exporter import Exporter
from actors.keeper import Keeper
from actors.nodes import Nodes
from actors.progress import Progress, Summary
from actors.publisher import Publisher
from actors.site import Site
from actors.sizer import Sizer
from cluster.placement import Placement, Sizing
from ltx_ray.ledger.control import forget, standing
from ltx_ray.ledger.lease import Lease, read_lease, wait_for_lease
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.sweep import sweep_unfinished
from ltx_ray.manifest.index import index_manifest, long_rows, shots
from ltx_ray.run import RunSpec
from ltx_ray.shard import WHOLE, Shard, command_file
from ltx_ray.storage import Store
from ltx_ray.types import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderJob:
    """What one call of ``render`` is to do."""

    manifest: str
    run: RunSpec
    sizing: Sizing
    placement: Placement  # at the start; what an actor takes stays so
    owner: str  # names the command: only one may write to a shard of OUT at a time
    command: bytes  # what was asked, for commands that go on with the run
    limit: int | None = None  # at most so many rows
    shard: Shard = WHOLE  # of the manifest


class Host:
    """Holds one coordinator. A plain class; under Ray it is an async actor."""

    def __init__(self, job: RenderJob, site: Site) -> None:
        self._job = job
        self._site = site
        self._coordinator: Coordinator | None = None
        self._exporter: Exporter | None = None
        self._stopped = False

    async def run(self) -> Summary:
        """Index the manifest, replay the ledger, render."""
        self._coordinator = await asyncio.to_thread(self._build)
        if self._coordinator is None or self._exporter is None:
            return Summary(progress=Progress.none(), interrupted=True, failures=(), cpu_seconds={})
        if self._stopped:
            self._coordinator.stop()
        return await self._exporter.run(self._coordinator)

    async def progress(self) -> Progress | None:
        """How far the run is; None while it is being set up."""
        return self._coordinator.progress() if self._coordinator else None

    async def stop(self) -> None:
        """Stop soon; everything that is committed stays."""
        self._stopped = True
        if self._exporter:
            self._exporter.hurry()
        if self._coordinator:
            self._coordinator.stop()

    def _build(self) -> Coordinator | None:
        """The coordinator, as the only driver; None where this was stopped before it could be."""
        job, shard = self._job, self._job.shard.name
        index = index_manifest(job.manifest, job.run.config, job.shard)
        first = long_rows(index, job.placement.sizes[Stage.DENOISE])
        rows = shots(job.manifest, job.run.config, index, first)
        total = index.num_own if job.limit is None else min(job.limit, index.num_own)
        store = Store(job.run.out)
        if not wait_for_lease(store, job.owner, shard, stopped=lambda: self._stopped):
            return None
        before = read_lease(store, shard)
        ledger, history = Ledger.open(store, shard)
        lease = Lease(store, job.owner, ledger.epoch, shard)
        goes_on = before is not None and before.owner == job.owner  # in place of a coordinator that was lost
        if not goes_on:
            forget(store, shard)
        lease.renew()
        sweep_unfinished(store, shard)
        store.write(command_file(shard), job.command)
        nodes, keeper = Nodes(), Keeper(store, lease)
        pools = self._site.pools(job.run, job.placement, nodes)
        self._exporter = Exporter(job.run, store, keeper, job.placement.gpus, epoch=ledger.epoch, shard=shard)
        return Coordinator(
            job.run,
            islice(rows, job.limit),
            pools,
            ledger,
            history,
            Publisher(job.run.out, shard),
            keeper,
            nodes,
            self._exporter.seen_through(self._site.look),
            Sizer(pools, job.sizing, job.placement),
            standing(store, shard),
            job.placement,
            self._exporter.observer,
            gpu_hours=before.progress["gpu_hours"] if goes_on and before and before.progress else 0.0,
            total=total,
            cost=index.cost,
            total_cost=index.total_cost,
            max_active=job.run.config.pools.max_active_shots,
            shard=shard,
        )

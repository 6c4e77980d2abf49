"""Pools size themselves: as fast as the best split of the GPUs, no more of them than there is work for."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from simulated_farm import fresh_url, write_manifest
from simulated_world import CONFIG, Row

from actors.coordinator import Coordinator
from actors.nodes import Nodes
from actors.pool import Pool
from actors.publisher import Publisher
from actors.simulated_pool import Fate, SimulatedWorker, run_virtually
from actors.sizer import ShotsLeft, Sizer
from cluster.capacity import Capacity, Seen, Space
from cluster.placement import Sizing
from ltx_ray.config import Bounds, PoolsConfig
from ltx_ray.errors import ConfigError
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.manifest.index import index_manifest, long_rows, shots
from ltx_ray.run import RunSpec
from ltx_ray.storage import Store
from ltx_ray.types import Stage

pytestmark = pytest.mark.usefixtures("_empty_store")
# Of one task; and how many of them a shot of three chunks has.
SECONDS = {
    Stage.CONDITION: 2.0,
    Stage.DENOISE: 40.0,
    Stage.DECODE: 30.0,
    Stage.ASSEMBLE: 0.5,
    Stage.FINISH: 0.5,
}
TASKS = {Stage.CONDITION: 1, Stage.DENOISE: 3, Stage.DECODE: 6}
START, NODE = 20.0, 60.0  # seconds until an actor is ready, and until a node has come


class Cluster:
    """GPUs, one a node, and actors that wait until there is room; it grows for those that wait."""

    def __init__(self, gpus: int, *, most: int | None = None) -> None:
        self.gpus, self._most = float(gpus), float(most or gpus)
        self.taken = 0.0
        self.launches = 0  # of actors that take a share of a GPU
        self.history: list[tuple[float, float]] = []  # (when, GPUs taken)
        self._changed = asyncio.Event()

    async def take(self, share: float) -> None:
        """Wait for so much of a GPU."""
        while self.taken + share > self.gpus + 1e-9:
            self._changed.clear()
            if self.gpus < self._most:
                await asyncio.sleep(NODE)
                self.gpus = min(self._most, self.gpus + 1)
            else:
                await self._changed.wait()
        self._count(share)

    def give(self, share: float) -> None:
        """Give it back."""
        self._count(-share)
        self._changed.set()

    async def look(self) -> Seen:
        """As a site tells it."""
        return Seen(capacity=Capacity(nodes=(Space(64, 1),) * int(self.gpus)))

    def _count(self, share: float) -> None:
        self.taken += share
        self.history.append((asyncio.get_running_loop().time(), self.taken))


class Holder(SimulatedWorker):
    """A simulated worker that has a share of the cluster until it is let go."""

    def __init__(self, stage: Stage, cluster: Cluster, share: float) -> None:
        super().__init__(stage, lambda job: Fate(seconds=SECONDS[stage]))
        self._cluster, self._share = cluster, share

    def close(self) -> None:
        """Once."""
        self._cluster.give(self._share)
        self._share = 0.0


class Launcher:
    """Of one stage."""

    def __init__(self, stage: Stage, cluster: Cluster, share: float) -> None:
        self._stage, self._cluster, self._share = stage, cluster, share

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> Holder:
        """When there is room for it."""
        await self._cluster.take(self._share)
        placed()
        self._cluster.launches += self._share > 0
        await asyncio.sleep(START)
        return Holder(self._stage, self._cluster, self._share)


def rendered(
    folder: Path, rows: Sequence[Row], make: Callable[[], Cluster], config: PoolsConfig
) -> tuple[float, Cluster]:
    """(seconds that a run of ``rows`` took, the cluster on which it was)."""
    manifest = folder / "shots.jsonl"
    write_manifest(manifest, rows)
    roomy = CONFIG.model_copy(update={"pools": PoolsConfig(max_decoded_bytes=2**40)})
    spec = replace(RunSpec.decide(roomy, fresh_url(), "cpu"), out=fresh_url())

    async def run() -> tuple[float, Cluster]:
        cluster = make()
        sizing = Sizing(device="cuda", threads=1, config=config)
        placement = sizing.place((await cluster.look()).capacity)
        index = index_manifest(str(manifest), spec.config)
        ledger, history = Ledger.open(Store(spec.out), inline=True)
        nodes = Nodes()
        pools = {
            stage: Pool(stage, Launcher(stage, cluster, placement.gpus[stage]), placement.sizes[stage], nodes)
            for stage in Stage
        }
        coordinator = Coordinator(
            spec,
            shots(str(manifest), spec.config, index, long_rows(index, placement.sizes[Stage.DENOISE])),
            pools,
            ledger,
            history,
            Publisher(spec.out, inline=True),
            nodes=nodes,
            look=cluster.look,
            sizer=Sizer(pools, sizing, placement),
            shares=placement,
            total=index.num_rows,
            cost=index.cost,
            total_cost=index.total_cost,
        )
        summary = await coordinator.run()
        assert summary.progress.done == len(rows)
        assert cluster.taken == pytest.approx(0.0)
        return asyncio.get_running_loop().time(), cluster

    return run_virtually(run())


def held(cluster: Cluster, since: float) -> float:
    """GPU-seconds that actors had from ``since`` on."""
    ends = [when for when, _ in cluster.history[1:]]
    spans = zip(cluster.history, ends, strict=False)
    return sum(taken * max(end - max(begin, since), 0.0) for (begin, taken), end in spans)


@pytest.mark.parametrize("denoise", [10.0, 40.0, 90.0])
def test_gpus_are_split_so_that_no_stage_waits_for_another(
    tmp_path: Path, denoise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SECONDS, Stage.DENOISE, denoise)
    rows, gpus = 300, 16
    seconds, cluster = rendered(tmp_path, [Row(3)] * rows, lambda: Cluster(gpus), PoolsConfig())
    shares = {Stage.CONDITION: 0.2, Stage.DENOISE: 1.0, Stage.DECODE: 0.4}
    bound = rows * sum(TASKS[stage] * SECONDS[stage] * share for stage, share in shares.items()) / gpus
    assert seconds <= 1.15 * bound
    assert cluster.launches <= 5 * gpus, "it does not flap"


def test_a_cluster_grows_from_nothing_and_a_last_long_shot_holds_little_of_it(tmp_path: Path) -> None:
    rows = [*[Row(3)] * 40, Row(60)]
    config = PoolsConfig(max_gpus=8)
    seconds, cluster = rendered(tmp_path, rows, lambda: Cluster(0, most=8), config)
    assert cluster.gpus == 8
    chain = 60 * SECONDS[Stage.DENOISE]
    assert chain < seconds < 1.25 * chain, "the long shot begins at once, and all else fits beside it"
    # What the chain's second half needs: a denoiser, and a decoder now and then.
    assert held(cluster, seconds - chain / 2) <= 2.5 * chain / 2, "of 8"


def test_stages_keep_the_actors_that_the_config_asks_for_and_have_no_more_than_it_allows(
    tmp_path: Path,
) -> None:
    config = PoolsConfig(denoisers=Bounds(least=3, most=3), decoders=Bounds(least=2, most=4), idle_seconds=1)
    _, cluster = rendered(tmp_path, [Row(1), Row(20)], lambda: Cluster(16), config)
    assert max(taken for _, taken in cluster.history) <= 3 + 4 * 0.4 + 0.2 + 1e-9
    assert cluster.launches <= 3 + 4 + 2


def test_what_a_cluster_without_gpus_has_is_used_at_once() -> None:
    sizing = Sizing(device="cpu", threads=1, config=PoolsConfig())
    cluster = Capacity(nodes=(Space(40),))
    placement = sizing.place(cluster)

    async def first_look() -> int:
        empty = Cluster(0)
        pools = {stage: Pool(stage, Launcher(stage, empty, 0.0), 1) for stage in Stage}
        Sizer(pools, sizing, placement).look(cluster, ShotsLeft(waiting=100, active=0))
        return pools[Stage.DENOISE].most

    assert run_virtually(first_look()) == placement.sizes[Stage.DENOISE] == 40


def test_bounds_are_a_number_or_two() -> None:
    assert PoolsConfig.model_validate({"denoisers": 8}).denoisers == Bounds(least=0, most=8)
    assert PoolsConfig.model_validate({"denoisers": "2..8"}).denoisers == Bounds(least=2, most=8)
    for wrong in ("8..2", "many", "..", 0, "1..2..3", True):
        with pytest.raises(ConfigError):
            PoolsConfig.checked(denoisers=wrong)

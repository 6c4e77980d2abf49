"""Nodes that cannot do a run's work: who is asked, who is left out and for how long, and when that is all."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.node_care import NodeCare
from actors.nodes import Nodes
from actors.ray_pool import RaySite, _shell
from actors.room import Room
from actors.simulated_pool import run_virtually
from cluster import node_probe
from cluster.capacity import Capacity, Seen, Space
from cluster.census import one_of_each_type
from cluster.fitness import Fitness
from cluster.inspect import probes_by_value
from cluster.placement import accelerator_of
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError
from ltx_ray.run import keep_accelerator, kept_accelerator
from ltx_ray.storage import Store
from ltx_ray.types import Stage

SPACE = Space(4.0)


def seen(**spaces: Space) -> Seen:
    """Nodes with so much, all of it free."""
    carried = tuple(spaces.values())
    return Seen(
        living=frozenset(spaces),
        capacity=Capacity(carried, carried),
        hosts={node: f"host-of-{node}" for node in spaces},
        staying=tuple(spaces),
    )


def entry(
    name: str, cpus: float = 4, gpus: float = 0, *, alive: bool = True, **labels: str
) -> dict[str, Any]:
    """A node as Ray tells of it."""
    resources = {"CPU": cpus, "GPU": gpus, "object_store_memory": hash(name)}
    return {
        "NodeID": name,
        "Alive": alive,
        "Resources": resources,
        "Labels": {"ray.io/node-id": name, **labels},
    }


def test_one_node_of_each_type_is_asked_and_none_where_there_is_but_one() -> None:
    head, worker, twin, large = entry("head", 0), entry("a"), entry("b"), entry("c", 4, 8)
    spot = entry("d", **{"ray.io/market-type": "spot"})
    dead = entry("e", 64, alive=False)
    assert one_of_each_type([head], "head") == one_of_each_type([worker], "a") == []
    assert one_of_each_type([head, worker, twin, large, spot, dead], "head") == ["a", "c", "d"]
    assert one_of_each_type([worker, twin], "a") == ["b"], "rather another one than one's own"
    assert one_of_each_type([worker, large], "a") == ["c", "a"]


def test_an_unfit_node_carries_nothing_until_it_is_asked_again() -> None:
    fitness, all_of_them = Fitness(), seen(a=SPACE, b=Space(2.0))
    assert fitness.applied(all_of_them, 0.0) is all_of_them
    fitness.exclude("a", "it has no torch", 0.0)
    found = fitness.applied(all_of_them, 1.0)
    assert found.capacity.nodes == (Space(2.0),)
    assert found.unfit == {"a": "it has no torch"}
    assert fitness.applied(seen(b=SPACE), 1.0).unfit == {}, "it is gone"
    assert fitness.applied(all_of_them, 1000.0) is all_of_them


def test_a_run_gives_up_where_no_fit_node_could_carry_it() -> None:
    fitness, small_and_large = Fitness(), seen(small=Space(1.0), large=SPACE)
    fitness.exclude("large", "its disk is full", 0.0)
    assert fitness.hopeless(small_and_large, Space(0.5), grows=False, now=1.0) is None
    why = fitness.hopeless(small_and_large, Space(2.0), grows=False, now=1.0)
    assert why == "no node with 2 CPU can do the work of this run (host-of-large/large: its disk is full)"
    assert fitness.hopeless(small_and_large, Space(2.0), grows=True, now=1.0) is None, "another may come"
    for node in ("second", "third"):
        fitness.exclude(node, "its disk is full", 0.0)
    assert fitness.hopeless(small_and_large, Space(2.0), grows=True, now=1.0) is not None


def test_an_unfit_node_is_told_once_and_closed() -> None:
    said: list[str] = []
    nodes = Nodes()
    fitness = Fitness()

    async def look() -> Seen:
        return fitness.applied(seen(a=SPACE, b=SPACE), 0.0)

    async def play() -> None:
        care = NodeCare(nodes, look, Room({}, said.append), said.append)
        watching = asyncio.create_task(care.watch())
        await asyncio.sleep(3)
        assert care.quarantined == ()
        fitness.exclude("a", "it has no torch", 0.0)
        await asyncio.sleep(5)
        assert care.quarantined == ("a",)
        watching.cancel()

    run_virtually(play())
    assert said == ["node host-of-a/a is left out: it has no torch"]
    assert nodes.closed == {"a"}


def test_a_node_without_ltx_ray_or_with_another_one_can_say_so(tmp_path: Path) -> None:
    with probes_by_value():
        data = ray.cloudpickle.dumps((_shell(Stage.DENOISE), node_probe.unfit))
    code = f"""if True:
        import json, pickle, sys
        gone = ("ltx_ray", "cluster", "actors", "jobs") if sys.argv[1] == "none" else ()
        sys.modules.update(dict.fromkeys(gone))  # as where they are not
        shell, unfit = pickle.loads({data!r})
        wanted = json.loads(sys.argv[2])
        print(shell.__name__, shell().ask(unfit, wanted, {str(tmp_path)!r}, "run.json", "0" * 64, ()))
    """
    ours = node_probe.versions()

    def told(there: str, wanted: dict[str, str | None]) -> str:
        words = [sys.executable, "-c", code, there, json.dumps(wanted)]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert told("none", ours).startswith("Denoiser it has no ltx_ray: install there")
    other = told("ours", {**ours, "torch": "1.0"})
    assert f"it has torch {ours['torch']} (the run has 1.0)" in other
    assert "has no run.json there: it must be a folder that all nodes share" in told("ours", ours)
    (tmp_path / "run.json").write_text("{}")
    assert "its run.json is of another run" in told("ours", ours)


def test_a_run_stays_on_one_type_of_gpu_from_call_to_call(tmp_path: Path) -> None:
    def config(*settings: str) -> RenderConfig:
        return RenderConfig.load(None, settings)

    one, two = Seen(accelerators=frozenset({"H100"})), Seen(accelerators=frozenset({"H100", "L4"}))
    assert accelerator_of(config(), Seen()) is None
    assert accelerator_of(config(), one) == "H100"
    with pytest.raises(ConfigError, match=r"several types \(H100, L4\).*device\.accelerator"):
        accelerator_of(config(), two)
    assert accelerator_of(config("device.accelerator=L4"), two) == "L4"

    store = Store(str(tmp_path))
    assert kept_accelerator(store) is None
    assert keep_accelerator(store, "L4") == keep_accelerator(store, "H100") == "L4"
    kept = kept_accelerator(store)
    assert accelerator_of(config(), two, kept) == "L4", "no need to name it again"
    assert accelerator_of(config(), Seen(), kept) == "L4"
    for refused in (config(), config("device.accelerator=H100")):
        with pytest.raises(ConfigError, match="was begun on GPUs of the type L4"):
            accelerator_of(refused, one, kept)
    assert accelerator_of(config("pools.max_gpus=4"), one, kept) == "L4", "it may be added"
    assert accelerator_of(config("reproducible=false"), one, kept) == "H100"
    assert accelerator_of(config("device.kind=cpu"), two, kept) is None


def test_the_first_gpu_that_comes_decides_the_type(tmp_path: Path) -> None:
    site = RaySite(versions={}, run_hash="")

    async def ask() -> list[bool]:
        return [await site.uses(kind, str(tmp_path)) for kind in (None, "A100", "L4", "A100")]

    assert asyncio.run(ask()) == [True, True, False, True]
    assert kept_accelerator(Store(str(tmp_path))) == site.accelerator == "A100"

"""Work goes to nodes that can do it: not to such as are drained or bad, and alone where it must be."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from planned import settings_of, shot_of

from actors.line import Terms
from actors.nodes import Nodes
from actors.pool import Pool
from actors.recycling import Recycling
from actors.room import Room
from actors.simulated_pool import Fate, SimulatedWorker, run_virtually
from actors.work import Done
from actors.worker import Worker
from cluster.capacity import Capacity
from ltx_ray.planning.plan import plan_shot
from ltx_ray.types import Job, Receipt, Stage

PLAN = plan_shot(shot_of(9, 64, 64), settings_of())
Seconds = Callable[[str], float]


@dataclass
class Cluster:
    """Places workers on ``places`` in turn, off those that are avoided, and notes when what ran where."""

    places: Sequence[str]
    seconds: Seconds = lambda name: 1.0
    nodes: Nodes = field(default_factory=Nodes)
    ran: list[tuple[str, str, float, float]] = field(default_factory=list)  # name, node, begin, end
    launched: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    held_bytes: Callable[[int], int] = lambda job: 0  # of a worker, by how many jobs it has had

    def pool(self, most: int, recycling: Recycling | None = None) -> Pool:
        """A pool on this cluster's nodes."""
        return Pool(Stage.CONDITION, self, most, self.nodes, recycling)

    async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> Worker:
        """On the next node that is not avoided."""
        open_places = [place for place in self.places if place not in avoided]
        place = open_places[len(self.launched) % len(open_places)]
        self.launched.append(place)
        return PlacedWorker(self, place)

    async def with_two_idle(self) -> Pool:
        """A pool with two workers that have had a job each."""
        pool = self.pool(2)
        await asyncio.gather(*(pool.submit(job_of(str(number)), (), (0.0,)) for number in range(2)))
        return pool

    def where(self, name: str) -> str:
        """The node on which the last job of that name ran."""
        return [node for job, node, *_ in self.ran if job == name][-1]


class PlacedWorker(SimulatedWorker):
    """Tells its cluster."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        super().__init__(Stage.CONDITION, lambda job: Fate(seconds=cluster.seconds(job.output)), node)
        self._cluster, self._jobs = cluster, 0

    async def call(self, job: Job, inputs: Sequence[Any]) -> Done:
        """As SimulatedWorker.call."""
        begin = asyncio.get_running_loop().time()
        done = await super().call(job, inputs)
        self._cluster.ran.append((job.output, self.node, begin, asyncio.get_running_loop().time()))
        self._jobs += 1
        assert isinstance(done.outcome, Receipt)
        receipt = replace(done.outcome, held_bytes=self._cluster.held_bytes(self._jobs))
        return replace(done, outcome=receipt)

    def close(self) -> None:
        """Counted."""
        self._cluster.closed.append(self.node)


def job_of(name: str) -> Job:
    return Job(shot=PLAN.shot, task=PLAN.tasks[0], frame=PLAN.frame, attempt=1, output=name)


def virtually(work: Coroutine[Any, Any, None]) -> None:
    run_virtually(work)


def test_a_drained_node_ends_what_it_has_and_gets_nothing_more() -> None:
    cluster = Cluster(["a", "b"], seconds=lambda name: 10.0)

    async def main() -> None:
        pool = cluster.pool(2)
        first = [pool.submit(job_of(name), (), (0.0,)) for name in ("one", "two")]
        await asyncio.sleep(1)
        cluster.nodes.close({"a"})
        more = [pool.submit(job_of(name), (), (0.0,)) for name in ("three", "four", "five")]
        await asyncio.gather(*first, *more)
        await pool.close()

    virtually(main())
    on_a = [name for name, node, *_ in cluster.ran if node == "a"]
    assert on_a == ["one"], "what was at work there was finished, and nothing else began"
    assert cluster.launched == ["a", "b", "b"], "its successor is launched at once, elsewhere"
    assert cluster.closed.count("a") == 1


def test_an_idle_worker_on_a_drained_node_goes_at_once() -> None:
    cluster = Cluster(["a"])

    async def main() -> None:
        pool = cluster.pool(1)
        await pool.submit(job_of("one"), (), (0.0,))
        assert pool.state().workers == 1
        cluster.nodes.close({"a"})
        assert pool.state().workers == 0
        assert cluster.closed == ["a"]
        await pool.close()

    virtually(main())


def test_a_worker_that_comes_up_on_a_node_that_was_closed_meanwhile_is_replaced() -> None:
    cluster = Cluster(["a", "b"])

    async def main() -> None:
        pool = cluster.pool(1)
        done = pool.submit(job_of("one"), (), (0.0,))
        cluster.nodes.close({"a"})  # before the launch has begun
        await done
        await pool.close()

    virtually(main())
    assert cluster.where("one") == "b"


def test_what_failed_on_a_node_is_tried_on_another_if_one_is_free() -> None:
    cluster = Cluster(["a", "b"])

    async def main() -> None:
        pool = await cluster.with_two_idle()
        for node in ("a", "b"):
            await pool.submit(job_of(f"not on {node}"), (), (0.0,), Terms(shunned=frozenset({node})))
        await pool.submit(job_of("nowhere"), (), (0.0,), Terms(shunned=frozenset({"a", "b"})))
        await pool.close()

    virtually(main())
    assert (cluster.where("not on a"), cluster.where("not on b")) == ("b", "a")
    assert cluster.where("nowhere") in ("a", "b"), "a node on which it failed is better than none"


def test_a_job_goes_to_a_near_node_where_a_worker_is_free_and_waits_for_none() -> None:
    cluster = Cluster(["a", "b"])

    async def main() -> None:
        pool = await cluster.with_two_idle()
        for node in ("a", "b"):
            await pool.submit(job_of(f"near {node}"), (), (0.0,), Terms(near=(node,)))
        near_a = Terms(near=("gone", "a"))
        both = [pool.submit(job_of(name), (), (0.0,), near_a) for name in ("first", "second")]
        await asyncio.gather(*both)
        await pool.submit(job_of("not there"), (), (0.0,), Terms(near=("a",), shunned=frozenset({"a"})))
        cluster.nodes.close({"a"})
        await pool.submit(job_of("closed"), (), (0.0,), Terms(near=("a",)))
        await pool.close()

    virtually(main())
    assert [cluster.where(f"near {node}") for node in ("a", "b")] == ["a", "b"]
    assert (cluster.where("first"), cluster.where("second")) == ("a", "b")
    assert (cluster.where("not there"), cluster.where("closed")) == ("b", "b")


def test_what_is_near_overtakes_only_what_is_next_elsewhere() -> None:
    cluster = Cluster(["a", "b"], seconds=lambda name: 2.0 if name == "long" else 1.0)

    async def main() -> None:
        pool = await cluster.with_two_idle()
        jobs = [
            ("long", Terms(near=("a",))),  # takes two seconds there
            ("short", Terms(near=("b",))),  # after one of which b has the choice
            ("for a", Terms(near=("a",))),
            ("for b", Terms(near=("b",))),
            ("lost", Terms(near=("a",), shunned=frozenset({"a"}))),  # nobody will come free for it
        ]
        ends = [
            pool.submit(job_of(name), (), (float(rank),), terms) for rank, (name, terms) in enumerate(jobs)
        ]
        await asyncio.gather(*ends)
        await pool.close()

    virtually(main())
    ran = [(name, node) for name, node, *_ in sorted(cluster.ran[2:], key=lambda each: each[2])]
    assert ran == [("short", "b"), ("long", "a"), ("for b", "b"), ("for a", "a"), ("lost", "b")]


def test_a_job_alone_on_its_node_overlaps_nothing_there_and_everything_elsewhere() -> None:
    cluster = Cluster(["a", "b"], seconds=lambda name: 3.0 if name == "large" else 1.0)

    async def main() -> None:
        one, other = cluster.pool(2), cluster.pool(2)
        ends = [one.submit(job_of(f"one {n}"), (), (0.0,)) for n in range(8)]
        ends += [other.submit(job_of(f"other {n}"), (), (0.0,)) for n in range(8)]
        await asyncio.sleep(1.5)
        ends.append(one.submit(job_of("large"), (), (9.0,), Terms(alone=True)))
        await asyncio.gather(*ends)
        await asyncio.gather(one.close(), other.close())

    virtually(main())
    _, node, begin, end = next(each for each in cluster.ran if each[0] == "large")
    rest = [each for each in cluster.ran if each[0] != "large"]
    beside = [each for each in rest if each[1] == node and each[2] < end and each[3] > begin]
    assert beside == []
    assert [each for each in rest if each[1] != node and each[2] < end and each[3] > begin] != []
    assert begin <= 3.0, "it goes before what waits, although its priority is lower"
    assert len(cluster.ran) == 17


def test_two_jobs_alone_take_turns_and_a_dropped_one_holds_nothing_up() -> None:
    cluster = Cluster(["a"], seconds=lambda name: 2.0)

    async def main() -> None:
        one, other = cluster.pool(1), cluster.pool(1)
        await asyncio.gather(*(pool.submit(job_of("warm"), (), (0.0,)) for pool in (one, other)))
        running = other.submit(job_of("running"), (), (0.0,))
        await asyncio.sleep(0.5)
        dropped = one.submit(job_of("dropped"), (), (0.0,), Terms(alone=True))
        alone = [pool.submit(job_of("large"), (), (0.0,), Terms(alone=True)) for pool in (one, other)]
        await asyncio.sleep(0.5)
        dropped.cancel()
        last = one.submit(job_of("last"), (), (0.0,))
        await asyncio.gather(running, *alone, last)
        await asyncio.gather(one.close(), other.close())

    virtually(main())
    spans = sorted(each[2:] for each in cluster.ran if each[0] == "large")
    assert len(spans) == 2
    assert spans[0][1] <= spans[1][0]
    assert not [each for each in cluster.ran if each[0] == "dropped"]


def test_a_job_alone_moves_where_its_node_is_closed_before_it_began() -> None:
    cluster = Cluster(["a", "b"], seconds=lambda name: 5.0)

    async def main() -> None:
        pool = cluster.pool(2)
        busy = [pool.submit(job_of(str(number)), (), (0.0,)) for number in range(2)]
        await asyncio.sleep(1)
        large = pool.submit(job_of("large"), (), (0.0,), Terms(alone=True))
        cluster.nodes.close({"a"})
        await asyncio.gather(*busy, large)
        await pool.close()

    virtually(main())
    assert cluster.where("large") == "b"


def test_an_actor_whose_memory_grows_is_replaced_and_one_that_is_merely_large_is_not() -> None:
    def held(jobs: int) -> int:
        return 500 + 100 * jobs

    cluster = Cluster(["a"], held_bytes=held)

    async def main() -> None:
        pool = cluster.pool(1, Recycling(most_growth=350))
        for number in range(13):
            await pool.submit(job_of(str(number)), (), (0.0,))
        await pool.close()

    virtually(main())
    # It is warm after two jobs; the fourth after that finds it 400 larger.
    assert len(cluster.launched) == 3
    assert len(cluster.ran) == 13
    assert Recycling(None)._warm == {}


def test_a_stage_without_a_place_gets_that_of_an_idle_actor() -> None:
    said: list[str] = []

    class Full(Cluster):
        """Has room for a second worker only when the first has left."""

        async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> Worker:
            while self.launched and not self.closed:
                await asyncio.sleep(1)
            return await super().launch(avoided, placed)

    async def main() -> None:
        cluster = Full(["a"])
        idle, starving = cluster.pool(1), cluster.pool(1)
        await idle.submit(job_of("early"), (), (0.0,))
        waiting = starving.submit(job_of("late"), (), (0.0,))
        room = Room({Stage.DENOISE: idle, Stage.DECODE: starving}, said.append)
        clock = asyncio.get_running_loop().time
        while not waiting.done():
            room.look(clock(), Capacity())
            await asyncio.sleep(2)
            assert clock() < 100
        assert clock() >= 60, "it is not done in haste: the cluster may grow"
        assert cluster.closed == ["a"]
        await asyncio.gather(idle.close(), starving.close())

    virtually(main())
    assert len(said) == 1
    assert said[0].startswith("1 decode actors have found no place for 60 s; 1 tasks wait, an idle condition")


def test_beside_a_task_that_is_alone_no_worker_is_launched() -> None:
    cluster = Cluster(["a"], seconds=lambda name: 20.0 if name == "large" else 1.0)

    async def main() -> None:
        one, other = cluster.pool(1), cluster.pool(4)
        await asyncio.gather(one.submit(job_of("x"), (), (0.0,)), other.submit(job_of("y"), (), (0.0,)))
        large = one.submit(job_of("large"), (), (0.0,), Terms(alone=True))
        rest = [other.submit(job_of(str(number)), (), (0.0,)) for number in range(6)]
        await asyncio.sleep(10)
        assert other.state().workers + other.state().launching == 1
        await asyncio.gather(large, *rest)
        await asyncio.gather(one.close(), other.close())

    virtually(main())


def test_a_model_that_takes_long_to_load_wants_no_room() -> None:
    said: list[str] = []

    class Slow(Cluster):
        """Has a place at once, and loads for five minutes."""

        async def launch(self, avoided: Collection[str], placed: Callable[[], None]) -> Worker:
            placed()
            if self.launched:
                await asyncio.sleep(300)
            return await super().launch(avoided, placed)

    async def main() -> None:
        cluster = Slow(["a"])
        idle, loading = cluster.pool(1), cluster.pool(1)
        await idle.submit(job_of("early"), (), (0.0,))
        waiting = loading.submit(job_of("late"), (), (0.0,))
        room = Room({Stage.DENOISE: idle, Stage.DECODE: loading}, said.append)
        while not waiting.done():
            room.look(asyncio.get_running_loop().time(), Capacity())
            await asyncio.sleep(2)
        assert cluster.closed == []
        await asyncio.gather(idle.close(), loading.close())

    virtually(main())
    assert said == []

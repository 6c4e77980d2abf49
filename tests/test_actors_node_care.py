"""Which nodes are left out: those that fail what others can do, and those that will soon be gone."""

import asyncio

from actors.node_care import NodeCare
from actors.nodes import Nodes
from actors.quarantine import Quarantine
from actors.room import Room
from actors.simulated_pool import run_virtually
from cluster.capacity import Seen


def place(shot: int, task: str = "denoise-0000") -> tuple[str, str]:
    return f"s{shot}", task


def test_a_node_that_fails_what_others_can_do_is_quarantined_after_three_shots() -> None:
    found = Quarantine()
    for shot in range(3):
        found.failed("bad", place(shot), counts=True)
        assert found.nodes_of(place(shot)) == {"bad"}
        fresh = found.succeeded("good", place(shot), {"good", "bad"})
        assert fresh == ({"bad"} if shot == 2 else set())
    assert found.out == {"bad"}


def test_poisonous_shots_and_lost_actors_quarantine_nothing() -> None:
    found = Quarantine()
    known = {"a", "b"}
    for shot in range(9):  # fails everywhere, then its shot ends
        for node in known:
            found.failed(node, place(shot), counts=True)
        found.forget(f"s{shot}")
    for shot in range(9, 18):  # of an actor that was killed
        found.failed("a", place(shot), counts=False)
        found.succeeded("b", place(shot), known)
    for task in range(9):  # all of one shot
        found.failed("a", place(99, f"decode-{task}"), counts=True)
        found.succeeded("b", place(99, f"decode-{task}"), known)
    assert found.out == set()


def test_a_node_that_does_most_things_well_and_the_last_node_stay() -> None:
    found = Quarantine()
    known = {"a", "b"}
    for shot in range(9):
        found.failed("a", place(shot), counts=True)
        found.succeeded("b", place(shot), known)
        for other in range(4):
            found.succeeded("a", place(100 + 4 * shot + other), known)
    assert found.out == set()
    for node, other in (("b", "a"), ("a", "b")):
        for shot in range(200, 240):
            found.failed(node, place(shot), counts=True)
            found.succeeded(other, place(shot), known)
    assert len(found.out) == 1, "somebody has to do the work"


def test_care_says_what_it_does_and_closes_what_is_drained_or_bad() -> None:
    said: list[str] = []
    nodes = Nodes()
    living, draining = {"a", "b", "c"}, set[str]()
    broken: list[Exception] = []

    async def look() -> Seen:
        if broken:
            raise broken[0]
        return Seen(frozenset(living), frozenset(draining))

    async def main() -> None:
        care = NodeCare(nodes, look, Room({}, said.append), said.append)
        watching = asyncio.create_task(care.watch())
        await asyncio.sleep(5)
        assert nodes.closed == frozenset()
        draining.add("c")
        await asyncio.sleep(2)
        assert nodes.closed == {"c"}
        for shot in range(3):
            care.failed("a", place(shot), counts=True)
            assert care.shunned(place(shot)) == {"a"}
            care.succeeded("b", place(shot))
        assert nodes.closed == {"a", "c"}
        assert care.quarantined == ("a",)
        broken.append(RuntimeError("no answer"))
        await asyncio.sleep(20)
        assert nodes.closed == {"a", "c"}, "what was seen last holds on"
        broken.clear()
        draining.clear()  # the notice was taken back
        await asyncio.sleep(2)
        assert nodes.closed == {"a"}
        living.clear()
        living.add("a")
        await asyncio.sleep(2)
        assert nodes.closed == frozenset(), "a bad node is better than none"
        watching.cancel()

    run_virtually(main())
    assert [text.split(":")[0] for text in said] == [
        "node c is being drained",
        "node a is quarantined",
        "the cluster does not tell which nodes it has",
        "only quarantined nodes are left",
    ]


def test_what_fails_everywhere_at_once_leaves_half_of_the_nodes() -> None:
    found = Quarantine()
    known = {f"n{number}" for number in range(6)}
    places = [place(shot) for shot in range(24)]
    for number, where in enumerate(places):
        found.failed(f"n{number % 6}", where, counts=True)
    for number, where in enumerate(places):
        found.succeeded(f"n{(number + 1) % 6}", where, known)
    assert len(found.out) <= 3

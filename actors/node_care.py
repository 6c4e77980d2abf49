"""Keeps work off nodes that will go, and off nodes that fail what others can do."""

import asyncio
from collections.abc import Awaitable, Callable

from actors.nodes import Nodes
from actors.quarantine import Place, Quarantine
from actors.room import Room
from cluster.capacity import Capacity, Seen

_LOOK_SECONDS = 2.0  # between two looks at the nodes; a spot notice leaves 30 s or more
Look = Callable[[], Awaitable[Seen]]


class NodeCare:
    """Of one run. ``look`` tells which nodes there are (None: there is but one, for ever); ``say`` tells
    people what is done; ``resize`` fits the pools to what the nodes have."""

    def __init__(
        self,
        nodes: Nodes,
        look: Look | None,
        room: Room,
        say: Callable[[str], None],
        resize: Callable[[Capacity], None] = lambda capacity: None,
    ) -> None:
        self._nodes, self._look, self._room, self._say = nodes, look, room, say
        self._resize = resize
        self._quarantine = Quarantine()
        self._seen = Seen()
        self._staying: frozenset[str] = frozenset()  # nodes that live and are not drained
        self._is_blind = False  # the last look failed

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Nodes that get no more work in this run: those that fail, and those that are not fit for it."""
        return tuple(sorted(self._quarantine.out | self._seen.unfit.keys()))

    async def watch(self) -> None:
        """Until cancelled, close nodes that are drained, make room for what finds no place, and fit the pools
        to what there is."""
        while self._look is not None:
            try:
                self._take_in(await self._look())
                self._is_blind = False
            except Exception as error:  # of whatever is wrong with the cluster just now; the run goes on
                if not self._is_blind:
                    self._say(f"the cluster does not tell which nodes it has: {error}")
                self._is_blind = True
            self._room.look(asyncio.get_running_loop().time(), self._seen.capacity)
            self._resize(self._seen.capacity)
            await asyncio.sleep(_LOOK_SECONDS)

    def failed(self, node: str, place: Place, *, counts: bool) -> None:
        """A task has failed on ``node``; ``counts``: for a reason that may be the node's."""
        self._quarantine.failed(node, place, counts=counts)

    def shunned(self, place: Place) -> frozenset[str]:
        """Nodes on which the task has failed: it is tried elsewhere, if there is an elsewhere."""
        return self._quarantine.nodes_of(place)

    def succeeded(self, node: str, place: Place) -> None:
        """A task went well on ``node``."""
        for bad in self._quarantine.succeeded(node, place, self._staying or self._nodes.known):
            self._say(f"node {bad} is quarantined: three shots failed there that went well elsewhere")
            self._close()

    def forget(self, shot: str) -> None:
        """The shot has ended."""
        self._quarantine.forget(shot)

    def _take_in(self, seen: Seen) -> None:
        for node in sorted(seen.draining - self._seen.draining):
            self._say(f"node {node} is being drained: it gets no more work")
        for node, why in seen.unfit.items():
            if node not in self._seen.unfit:
                self._say(f"node {seen.host(node)} is left out: {why}")
        self._seen = seen
        self._staying = seen.living - seen.draining - seen.unfit.keys()
        if self._quarantine.out and self._staying and self._staying <= self._quarantine.out:
            self._say("only quarantined nodes are left: they get work again")
            self._quarantine.lift()
        self._close()

    def _close(self) -> None:
        self._nodes.close(self._seen.draining | self._quarantine.out | self._seen.unfit.keys())

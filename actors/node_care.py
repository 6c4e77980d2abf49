"""Keeps work off nodes that will go, and off nodes that fail what others can do."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from actors.nodes import Nodes
from actors.quarantine import Place, Quarantine

_LOOK_SECONDS = 1.0  # between two looks at which nodes are drained; a spot notice leaves 30 s or more
Draining = Callable[[], Awaitable[Collection[str]]]


class NodeCare:
    """Of one run. ``draining`` tells which nodes are about to go (None: none ever); ``say`` tells people what
    is done."""

    def __init__(self, nodes: Nodes, draining: Draining | None, say: Callable[[str], None]) -> None:
        self._nodes, self._draining, self._say = nodes, draining, say
        self._quarantine = Quarantine()
        self._drained: frozenset[str] = frozenset()

    @property
    def quarantined(self) -> tuple[str, ...]:
        """Nodes that get no more work in this run."""
        return tuple(sorted(self._quarantine.out))

    async def watch(self) -> None:
        """Close nodes that are drained, until cancelled."""
        while self._draining is not None:
            drained = frozenset(await self._draining())
            for node in sorted(drained - self._drained):
                self._say(f"node {node} is being drained: it gets no more work")
            self._drained = drained
            self._close()
            await asyncio.sleep(_LOOK_SECONDS)

    def failed(self, node: str, place: Place, *, lost: bool) -> None:
        """A task has failed on ``node``, not plainly by its row's fault; ``lost``: its actor went away."""
        self._quarantine.failed(node, place, counts=not lost)

    def shunned(self, place: Place) -> frozenset[str]:
        """Nodes on which the task has failed: it is tried elsewhere, if there is an elsewhere."""
        return self._quarantine.nodes_of(place)

    def succeeded(self, node: str, place: Place) -> None:
        """A task went well on ``node``."""
        for bad in self._quarantine.succeeded(node, place, self._nodes.known - self._drained):
            self._say(f"node {bad} is quarantined: three shots failed there that went well elsewhere")
            self._close()

    def forget(self, shot: str) -> None:
        """The shot has ended."""
        self._quarantine.forget(shot)

    def _close(self) -> None:
        self._nodes.close(self._drained | self._quarantine.out)

"""Who fetches weights, and when: each node once, and only so many nodes at a time."""

import asyncio
from collections import defaultdict


class Fetching:
    """Of the nodes of one run; to be used in one event loop. Actors that share a node share what it has."""

    def __init__(self, most: int) -> None:
        self._most = asyncio.Semaphore(most)
        self._nodes: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def on(self, node: str) -> asyncio.Lock:
        """Held while it is found out whether ``node`` has the weights, and while they are fetched."""
        return self._nodes[node]

    def slot(self) -> asyncio.Semaphore:
        """Held while they are fetched."""
        return self._most

"""Jobs that wait in front of a pool: lower rank first, then first come, first served."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from actors.work import Done
from ltx_ray.types import Job

Rank = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a job wants to be run."""

    seconds: float | None = None  # after which its worker counts as hung
    alone: bool = False  # with nothing else on its node: before all else, for nothing begins there meanwhile
    shunned: frozenset[str] = frozenset()  # nodes on which it failed: it waits for another, if there is one
    near: tuple[str, ...] = ()  # nodes that have what it needs, the best first


ORDINARY = Terms()


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A job as it waits."""

    job: Job
    inputs: Sequence[Any]
    terms: Terms
    since: float  # by the loop's clock
    future: asyncio.Future[Done]


Entry = tuple[Rank, int, Asked]


class Line:
    """Whose future is cancelled is passed over."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._count = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, asked: Asked, priority: Rank) -> None:
        """Let it wait."""
        heapq.heappush(self._heap, (_rank(asked, priority), next(self._count), asked))

    def first(self) -> Asked | None:
        """Whose turn it is."""
        while self._heap and self._heap[0][-1].future.cancelled():
            heapq.heappop(self._heap)
        return self._heap[0][-1] if self._heap else None

    def pop(self) -> Entry:
        """Take the ``first`` out."""
        return heapq.heappop(self._heap)

    def put_back(self, entries: Iterable[Entry]) -> None:
        """They were taken out, and wait as before."""
        for entry in entries:
            heapq.heappush(self._heap, entry)

    def rank(self, priority: Callable[[Job], Rank]) -> None:
        """Order what waits anew."""
        self._heap = [
            (_rank(asked, priority(asked.job)), number, asked)
            for _, number, asked in self._heap
            if not asked.future.cancelled()
        ]
        heapq.heapify(self._heap)

    def oldest(self) -> float | None:
        """Since when the first that came waits; None: nothing does."""
        waiting = (asked.since for *_, asked in self._heap if not asked.future.cancelled())
        return min(waiting, default=None)

    def clear(self) -> list[Asked]:
        """Nothing waits any more; what did."""
        left, self._heap = self._heap, []
        return [asked for *_, asked in left]


def _rank(asked: Asked, priority: Rank) -> Rank:
    return (float("-inf"), *priority) if asked.terms.alone else priority

"""Which nodes may be given work: shared by the pools of a run. Bookkeeping, without clocks.

A node is closed while it is drained or quarantined: nothing more begins there. A node is held for one job
that has to have it for itself, such as one that ran out of memory beside others: what runs there ends, the
job runs, and the node is free again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from itertools import chain

from actors.idle import Idle
from actors.worker import Worker


class Nodes:
    """Names of nodes are those of ``Worker.node``."""

    def __init__(self) -> None:
        self.closed: frozenset[str] = frozenset()
        self.known: set[str] = set()  # that ever had a worker
        self._busy: Counter[str] = Counter()
        self._held: dict[str, object] = {}  # node -> the job that has it for itself
        self._listeners: list[Callable[[], None]] = []

    def listen(self, changed: Callable[[], None]) -> None:
        """``changed`` is called when nodes have come free, or may be given no more work."""
        self._listeners.append(changed)

    def close(self, nodes: Collection[str]) -> None:
        """From now on just these are closed."""
        if self.closed != (wanted := frozenset(nodes)):
            self.closed = wanted
            self._tell()

    def avoided(self) -> frozenset[str] | None:
        """Nodes on which no worker should be launched; None: for now there is no other."""
        shut = self.closed | self._held.keys()
        return None if self._held and self.known and self.known <= shut else frozenset(shut)

    def begin(self, node: str) -> None:
        """A job begins on ``node``."""
        self.known.add(node)
        self._busy[node] += 1

    def end(self, node: str, job: object) -> None:
        """``job`` on ``node`` has ended, in whatever way."""
        self._busy[node] -= 1
        if node in self._held:
            self._release(job)
            self._tell()

    def drop(self, job: object) -> None:
        """``job`` is wanted no more."""
        if job in self._held.values():
            self._release(job)
            self._tell()

    def usable(self, near: Iterable[str], shunned: Collection[str]) -> list[str]:
        """Of the ``near`` nodes, those on which a job may begin that failed on the ``shunned`` ones."""
        return [node for node in near if self._is_free(node) and node not in shunned]

    def open(self, idle: Idle, busy: Iterable[Worker], shunned: Collection[str] = ()) -> Worker | None:
        """The one of ``idle`` workers that an ordinary job is given to, mostly the last. None: it waits, for
        a node that is held, or for a ``busy`` worker that is on none of the ``shunned`` nodes."""
        second = None
        for each in reversed(idle):
            if self._is_free(each.node):
                if each.node not in shunned:
                    return each
                second = second or each
        if second is None:
            return None
        elsewhere = (self._is_open(each.node) and each.node not in shunned for each in chain(idle, busy))
        return None if any(elsewhere) else second

    def alone(self, job: object, idle: Iterable[Worker], busy: Iterable[Worker]) -> Worker | None:
        """The one of ``idle`` workers that ``job`` may have with nothing else on its node. Where there is
        none yet, a node is held for it, on which from now on nothing else begins."""
        alive = [each.node for each in (*idle, *busy)]
        held = next((node for node, owner in self._held.items() if owner is job), None)
        if held is not None and (held not in alive or not self._is_open(held)):
            self._release(job)  # its worker is gone: another node will do
            asyncio.get_running_loop().call_soon(self._tell)
            held = None
        if held is None:
            free = [node for node in alive if self._is_free(node)]
            if not free:
                return None
            held = min(free, key=lambda node: self._busy[node])
            self._held[held] = job
        return next((each for each in idle if each.node == held and not self._busy[held]), None)

    def _release(self, job: object) -> None:
        self._held = {node: owner for node, owner in self._held.items() if owner is not job}

    def _is_open(self, node: str) -> bool:
        return node not in self.closed

    def _is_free(self, node: str) -> bool:
        return self._is_open(node) and node not in self._held

    def _tell(self) -> None:
        for changed in self._listeners:
            changed()

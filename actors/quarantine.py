"""Which nodes fail tasks that succeed elsewhere: pure decisions."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

_STRIKES = 3  # shots that a node has failed, and that went well elsewhere
Place = tuple[str, str]  # a shot, and one of its tasks


@dataclass(slots=True)
class Quarantine:
    """Nodes of one run by what became of their tasks.

    A task that fails on every node says something of its shot, and nothing of a node. Where it goes well on
    another node, each on which it had failed has a strike. A node with three, of different shots, and no more
    good tasks than twice as many since its first, is out for the rest of the run; never the last one that
    is left.
    """

    out: set[str] = field(default_factory=set)
    # Nodes on which a task has failed by now, and whether that counts against them.
    _failed: dict[Place, dict[str, bool]] = field(default_factory=dict)
    _strikes: dict[str, set[str]] = field(default_factory=dict)  # node -> shots
    _good: Counter[str] = field(default_factory=Counter)  # since the first strike

    def failed(self, node: str, place: Place, *, counts: bool) -> None:
        """The task ``place`` has failed on ``node``; ``counts``: not just a lost actor."""
        found = self._failed.setdefault(place, {})
        found[node] = found.get(node, False) or counts

    def nodes_of(self, place: Place) -> frozenset[str]:
        """Where the task has failed."""
        return frozenset(self._failed.get(place, ()))

    def succeeded(self, node: str, place: Place, known: Collection[str]) -> frozenset[str]:
        """It went well on ``node``; the nodes, of those ``known``, that are quarantined for it now."""
        if node in self._strikes:
            self._good[node] += 1
        fresh = set()
        for other, counts in self._failed.pop(place, {}).items():
            if other == node or not counts:
                continue
            strikes = self._strikes.setdefault(other, set())
            strikes.add(place[0])
            is_bad = len(strikes) >= _STRIKES and self._good[other] <= 2 * len(strikes)
            if is_bad and other not in self.out and set(known) - self.out - {other}:
                self.out.add(other)
                fresh.add(other)
        return frozenset(fresh)

    def forget(self, shot: str) -> None:
        """The shot has ended, however."""
        for place in [place for place in self._failed if place[0] == shot]:
            del self._failed[place]

"""Which nodes fail tasks that succeed elsewhere: pure decisions."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

_STRIKES = 3  # shots that a node has failed, and that went well elsewhere
Place = tuple[str, str]  # a shot, and one of its tasks
Part = tuple[str, str]  # a node, and a stage


@dataclass(slots=True)
class Quarantine:
    """Nodes of one run by what became of their tasks.

    A task that fails on every node says something of its shot, and nothing of a node. Where it goes well on
    another node, each on which it had failed has a strike. A node with three in one stage, of different
    shots, and no more good tasks of that stage than twice as many since its first, is out for the rest of the
    run. What fails everywhere at one moment gives strikes to all: never are more than half of the nodes out.
    """

    out: set[str] = field(default_factory=set)
    # Nodes on which a task has failed by now, and whether that counts against them.
    _failed: dict[Place, dict[str, bool]] = field(default_factory=dict)
    _strikes: dict[Part, set[str]] = field(default_factory=dict)  # shots
    _good: Counter[Part] = field(default_factory=Counter)  # since the first strike

    def failed(self, node: str, place: Place, *, counts: bool) -> None:
        """The task ``place`` has failed on ``node``; ``counts``: for a reason that may be the node's."""
        found = self._failed.setdefault(place, {})
        found[node] = found.get(node, False) or counts

    def nodes_of(self, place: Place) -> frozenset[str]:
        """Where the task has failed."""
        return frozenset(self._failed.get(place, ()))

    def succeeded(self, node: str, place: Place, living: Collection[str]) -> frozenset[str]:
        """It went well on ``node``; the nodes, of those ``living``, that are quarantined for it now."""
        shot, task = place
        stage = task.partition("-")[0]
        if (node, stage) in self._strikes:
            self._good[node, stage] += 1
        fresh = set()
        for other, counts in self._failed.pop(place, {}).items():
            if other == node or not counts:
                continue
            strikes = self._strikes.setdefault((other, stage), set())
            strikes.add(shot)
            is_bad = len(strikes) >= _STRIKES and self._good[other, stage] <= 2 * len(strikes)
            if is_bad and other not in self.out and 2 * (len(self.out) + 1) <= len(set(living)):
                self.out.add(other)
                fresh.add(other)
        return frozenset(fresh)

    def lift(self) -> None:
        """Begin anew: a bad node is better than none."""
        self.out.clear()
        self._strikes.clear()
        self._good.clear()

    def forget(self, shot: str) -> None:
        """The shot has ended, however."""
        for place in [place for place in self._failed if place[0] == shot]:
            del self._failed[place]

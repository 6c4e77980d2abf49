"""Decode tasks wait here until there is room for their pixels: at most so many decoded bytes in flight.

A slab is admitted as a whole, because its first tile is worth nothing without its last: with tiles admitted
one by one, half-decoded slabs could fill the budget and wait for each other for ever. For the same reason a
slab is admitted after the one before it, whose tails it needs, and a tile that is decoded again never waits:
its slab was admitted before, or is encoded and only gives its tail once more. So the first slab of a shot
that is in flight can always be encoded, which makes room. A slab that is larger than the whole budget is
admitted when it is alone. Tails are not counted: they are a few frames of each active shot.

What a call costs does not depend on how much waits: of each shot only the slab whose turn it is stands in the
line.
"""

import heapq
import itertools
from dataclasses import dataclass, field

from actors.shot_run import ShotRun
from ltx_ray.planning import plan
from ltx_ray.types import Slab, Task

Priority = tuple[float, ...]
Waiting = tuple[Priority, ShotRun, Task]
_Place = tuple[str, int]  # shot, slab


@dataclass(slots=True, eq=False)
class _Group:
    """The tiles of a slab that wait."""

    active: ShotRun
    slab: Slab
    since: float  # the first of them waits
    tiles: list[tuple[Priority, Task]] = field(default_factory=list)
    stands_in_line: bool = False

    @property
    def place(self) -> _Place:
        return self.active.shot.id, self.slab.index


class DecodeQueue:
    """Decode tasks in order of priority, and the bytes of the slabs that were let through."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._groups: dict[_Place, _Group] = {}
        self._line: list[tuple[Priority, int, _Group]] = []  # a heap; groups that are gone are passed over
        self._count = itertools.count()
        self._free: list[Waiting] = []  # need no room
        self._admitted: dict[_Place, int] = {}
        self.in_flight = 0  # bytes
        self.peak = 0  # most bytes that ever were

    def __len__(self) -> int:
        return len(self._free) + sum(len(group.tiles) for group in self._groups.values())

    def hold(self, priority: Priority, active: ShotRun, task: Task, since: float = 0.0) -> None:
        """Let ``task`` wait; lower ``priority`` goes first."""
        slab = _slab(task)
        if self._is_free(active, slab.index):
            self._free.append((priority, active, task))
            return
        group = self._groups.setdefault((active.shot.id, slab.index), _Group(active, slab, since))
        group.tiles.append((priority, task))
        self._line_up(group)

    @property
    def oldest(self) -> float | None:
        """Since when the first of what waits does; None: nothing waits."""
        return min((group.since for group in self._groups.values()), default=None)

    def admit(self) -> list[Waiting]:
        """Tasks for whose slabs there is room now. A small slab does not overtake a large one for ever."""
        admitted, self._free = self._free, []
        while self._line:
            group = self._line[0][-1]
            is_wanted = self._groups.get(group.place) is group and self._is_next(group)
            if is_wanted and not self._fits(group):
                break
            heapq.heappop(self._line)
            group.stands_in_line = False
            if is_wanted:
                del self._groups[group.place]
                admitted += [(priority, group.active, task) for priority, task in group.tiles]
                if after := self._groups.get((group.active.shot.id, group.slab.index + 1)):
                    self._line_up(after)
        return admitted

    def release(self, shot_id: str, slab: int) -> None:
        """The slab is encoded. Nothing happens where it was not admitted."""
        self.in_flight -= self._admitted.pop((shot_id, slab), 0)

    def drop(self, active: ShotRun) -> None:
        """The shot is over: forget its tasks and its slabs."""
        self._free = [entry for entry in self._free if entry[1] is not active]
        for slab in active.plan.slabs:
            self._groups.pop((active.shot.id, slab.index), None)
            self.release(active.shot.id, slab.index)

    def _line_up(self, group: _Group) -> None:
        if not group.stands_in_line and self._is_next(group):
            group.stands_in_line = True
            heapq.heappush(self._line, (group.tiles[0][0], next(self._count), group))

    def _is_free(self, active: ShotRun, slab: int) -> bool:
        return (active.shot.id, slab) in self._admitted or active.is_encoded(slab)

    def _is_next(self, group: _Group) -> bool:
        return group.slab.index == 0 or self._is_free(group.active, group.slab.index - 1)

    def _fits(self, group: _Group) -> bool:
        size = decoded_bytes(group.slab)
        if self._admitted and self.in_flight + size > self._most:
            return False
        self._admitted[group.place] = size
        self.in_flight += size
        self.peak = max(self.peak, self.in_flight)
        return True


def decoded_bytes(slab: Slab) -> int:
    """Bytes of the slab's decoded tiles, 8-bit RGB, ramps and tails included."""
    return sum(plan.decoded_bytes(slab, tile) for tile in slab.tiles)


def _slab(task: Task) -> Slab:
    assert isinstance(task.work, tuple), f"{task.key} is no decode task"
    return task.work[0]

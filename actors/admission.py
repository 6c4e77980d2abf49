"""Decode tasks wait here until there is room for their pixels: at most so many decoded bytes in flight.

A slab is admitted as a whole, because its first tile is worth nothing without its last: with tiles admitted
one by one, half-decoded slabs could fill the budget and wait for each other for ever. A slab that is larger
than the whole budget is admitted when it is alone. The tails that a slab hands to the next are not counted
a second time: they are a few frames of each active shot.
"""

from actors.shot_run import ShotRun
from ltx_ray.types import Slab, Task

Priority = tuple[float, ...]
Waiting = tuple[Priority, ShotRun, Task]


class DecodeQueue:
    """Decode tasks in order of priority, and the bytes of the slabs that were let through."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._waiting: list[Waiting] = []
        self._admitted: dict[tuple[str, int], int] = {}
        self.in_flight = 0  # bytes
        self.peak = 0  # most bytes that ever were

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, priority: Priority, active: ShotRun, task: Task) -> None:
        """Let ``task`` wait; lower ``priority`` goes first."""
        self._waiting.append((priority, active, task))

    def admit(self) -> list[Waiting]:
        """The tasks for whose slabs there is room now. A small slab does not overtake a large one for ever."""
        self._waiting = sorted((w for w in self._waiting if not w[1].closed), key=lambda w: w[0])
        count = 0
        for _, active, task in self._waiting:
            slab = _slab(task)
            if not self._fits((active.shot.id, slab.index), decoded_bytes(slab)):
                break
            count += 1
        admitted, self._waiting = self._waiting[:count], self._waiting[count:]
        return admitted

    def release(self, shot_id: str, slab: int) -> None:
        """The slab is encoded, or given up. Nothing happens where it was not admitted."""
        self.in_flight -= self._admitted.pop((shot_id, slab), 0)

    def _fits(self, key: tuple[str, int], size: int) -> bool:
        if key in self._admitted:
            return True
        if self._admitted and self.in_flight + size > self._most:
            return False
        self._admitted[key] = size
        self.in_flight += size
        self.peak = max(self.peak, self.in_flight)
        return True


def decoded_bytes(slab: Slab) -> int:
    """Bytes of the slab's decoded tiles, 8-bit RGB, ramps and tails included."""
    return sum(slab.t.size * tile.y.size * tile.x.size * 3 for tile in slab.tiles)


def _slab(task: Task) -> Slab:
    assert isinstance(task.work, tuple), f"{task.key} is no decode task"
    return task.work[0]

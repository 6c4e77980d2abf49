"""Decode tasks wait here until there is room for their pixels: at most so many decoded bytes in flight.

A slab is admitted as a whole, because its first tile is worth nothing without its last: with tiles admitted
one by one, half-decoded slabs could fill the budget and wait for each other for ever. For the same reason a
slab is admitted after the one before it, whose tails it needs, and a tile that is decoded again never waits:
its slab was admitted before, or is encoded and only gives its tail once more. So the first slab of a shot
that is in flight can always be encoded, which makes room. A slab that is larger than the whole budget is
admitted when it is alone. Tails are not counted: they are a few frames of each active shot.
"""

from actors.shot_run import ShotRun
from ltx_ray.planning import plan
from ltx_ray.types import Slab, Task

Priority = tuple[float, ...]
Waiting = tuple[Priority, ShotRun, Task]
Held = tuple[Priority, ShotRun, Task, float]  # and since when


class DecodeQueue:
    """Decode tasks in order of priority, and the bytes of the slabs that were let through."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._waiting: list[Held] = []
        self._admitted: dict[tuple[str, int], int] = {}
        self.in_flight = 0  # bytes
        self.peak = 0  # most bytes that ever were

    def __len__(self) -> int:
        return len(self._waiting)

    def hold(self, priority: Priority, active: ShotRun, task: Task, since: float = 0.0) -> None:
        """Let ``task`` wait; lower ``priority`` goes first."""
        self._waiting.append((priority, active, task, since))

    @property
    def oldest(self) -> float | None:
        """Since when the first of what waits does; None: nothing waits."""
        return min((since for *_, since in self._waiting), default=None)

    def admit(self) -> list[Waiting]:
        """Tasks for whose slabs there is room now. A small slab does not overtake a large one for ever."""
        entries = sorted(self._waiting, key=lambda w: w[0])
        self._waiting = []
        admitted: list[Waiting] = []
        is_full = False
        for entry in entries:
            priority, active, task, _ = entry
            slab = _slab(task)
            if self._is_free(active, slab.index):
                admitted.append((priority, active, task))
            elif is_full or not self._is_next(active, slab.index):
                self._waiting.append(entry)
            elif self._fits((active.shot.id, slab.index), decoded_bytes(slab)):
                admitted.append((priority, active, task))
            else:
                is_full = True
                self._waiting.append(entry)
        return admitted

    def release(self, shot_id: str, slab: int) -> None:
        """The slab is encoded. Nothing happens where it was not admitted."""
        self.in_flight -= self._admitted.pop((shot_id, slab), 0)

    def drop(self, active: ShotRun) -> None:
        """The shot is over: forget its tasks and its slabs."""
        self._waiting = [entry for entry in self._waiting if entry[1] is not active]
        for slab in active.plan.slabs:
            self.release(active.shot.id, slab.index)

    def _is_free(self, active: ShotRun, slab: int) -> bool:
        return (active.shot.id, slab) in self._admitted or active.is_encoded(slab)

    def _is_next(self, active: ShotRun, slab: int) -> bool:
        return slab == 0 or self._is_free(active, slab - 1)

    def _fits(self, key: tuple[str, int], size: int) -> bool:
        if self._admitted and self.in_flight + size > self._most:
            return False
        self._admitted[key] = size
        self.in_flight += size
        self.peak = max(self.peak, self.in_flight)
        return True


def decoded_bytes(slab: Slab) -> int:
    """Bytes of the slab's decoded tiles, 8-bit RGB, ramps and tails included."""
    return sum(plan.decoded_bytes(slab, tile) for tile in slab.tiles)


def _slab(task: Task) -> Slab:
    assert isinstance(task.work, tuple), f"{task.key} is no decode task"
    return task.work[0]

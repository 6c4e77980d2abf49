"""Where the payloads of one shot lie, and so on which nodes its tasks are best done.

A decoded slab is by far the largest thing that is handed on: 1.6 GB of 64 frames in 4K. So the tiles of a
shot rather go where its last segment was made, or its latents are, and a slab is assembled where most of its
pixels are. It is a wish: no worker waits for it. Other stages take what is small, or files.
"""

from collections import Counter

from ltx_ray.planning.plan import TAIL
from ltx_ray.types import Need, ShotPlan, Stage, Task, TaskKey


class Whereabouts:
    """Names of nodes are those of ``Worker.node``; "" is none."""

    def __init__(self, plan: ShotPlan) -> None:
        self._plan = plan
        self._made_on: dict[TaskKey, str] = {}
        self._nodes: dict[str, None] = {}  # on which results were made
        self._segment = ""  # where the last one was made

    def made(self, key: TaskKey, node: str) -> None:
        """The result of a task was made on ``node``."""
        if node:
            self._made_on[key] = node
            self._nodes[node] = None
            if key.stage is Stage.ASSEMBLE:
                self._segment = node

    def near(self, task: Task) -> tuple[str, ...]:
        """Nodes on which ``task`` would be near to what it needs, the best of them first."""
        if task.key.stage not in (Stage.DECODE, Stage.ASSEMBLE):
            return ()
        if len(self._nodes) < 2:  # as on one machine: there is nothing to weigh
            return tuple(self._nodes)
        held: Counter[str] = Counter()
        for need in task.needs:
            if node := self._made_on.get(need.key):
                held[node] += self._bytes(need)
        if task.key.stage is Stage.DECODE and self._segment:
            held[self._segment] += len(task.needs) + 1  # more than its latents: what it will be joined with
        return tuple(node for node, _ in held.most_common())

    def _bytes(self, need: Need) -> int:
        if need.key.stage is not Stage.DECODE:
            return 1  # latents are nothing next to pixels
        slab = self._plan.slabs[need.key.index]
        tile = slab.tiles[need.key.tile]
        frames = slab.t.ramp_out if need.part == TAIL else slab.t.size - slab.t.ramp_out
        return frames * tile.y.size * tile.x.size * 3

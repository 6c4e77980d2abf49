"""Room on a full cluster: who finds no place is told, and gets that of an actor that has nothing to do."""

from collections.abc import Callable, Mapping

from actors.pool import Pool
from cluster.capacity import Capacity
from cluster.placement import Placement
from ltx_ray.types import Stage

_PATIENCE = 60.0  # seconds that a stage waits for a place: a cluster may grow meanwhile


class Room:
    """Watches the pools of a run. A node that dies, or is closed, may have held all actors of a stage, and
    what is left may be full of actors of stages that wait for that one. ``shares``: what an actor takes of a
    node; None: nothing is known of nodes."""

    def __init__(
        self, pools: Mapping[Stage, Pool], say: Callable[[str], None], shares: Placement | None = None
    ) -> None:
        self._pools, self._say, self._shares = pools, say, shares
        self._since: dict[Stage, float] = {}  # when a stage was first seen to wait for a place

    def look(self, now: float, capacity: Capacity) -> None:
        """Tell of each stage that has waited too long by ``now``, in seconds, what it lacks; where it has no
        actor at all, let an idle one of another stage go for it."""
        for stage, pool in self._pools.items():
            state = pool.state()
            if not (state.queued and state.unplaced):
                self._since.pop(stage, None)
                continue
            if now - self._since.setdefault(stage, now) < _PATIENCE:
                continue
            self._since[stage] = now
            said = f"{state.unplaced} {stage} actors have found no place for {_PATIENCE:.0f} s"
            if self._shares and capacity.nodes:
                said += f": {capacity.lack(self._shares.space(stage))}"
            if not state.workers:
                said += f"; {state.queued} tasks wait, {self._make_room()}"
            self._say(f"{said}; add nodes, or lower pools.gpu_shares and pools.cpu_shares")

    def _make_room(self) -> str:
        gone = next((other for other in self._pools.values() if other.let_one_go()), None)
        return f"an idle {gone.stage} actor is let go" if gone else "nothing that runs can be let go"

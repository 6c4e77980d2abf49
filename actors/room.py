"""Room on a full cluster: a stage whose actors find no place gets that of one that has nothing to do."""

from collections.abc import Callable, Mapping

from actors.pool import Pool
from ltx_ray.types import Stage

_PATIENCE = 60.0  # seconds that a stage waits for a place: a cluster may grow meanwhile


class Room:
    """Watches the pools of a run. A node that dies, or is closed, may have held all actors of a stage, and
    what is left may be full of actors of stages that wait for that one."""

    def __init__(self, pools: Mapping[Stage, Pool], say: Callable[[str], None]) -> None:
        self._pools, self._say = pools, say
        self._since: dict[Stage, float] = {}  # when a stage was first seen to have work and no worker

    def look(self, now: float) -> None:
        """Let an idle actor go for each stage that has waited too long by ``now``, in seconds."""
        for stage, pool in self._pools.items():
            state = pool.state()
            if not (state.queued and state.unplaced and not state.workers):
                self._since.pop(stage, None)
                continue
            if now - self._since.setdefault(stage, now) < _PATIENCE:
                continue
            self._since[stage] = now
            gone = next((other for other in self._pools.values() if other.let_one_go()), None)
            done = "nothing that runs can be let go"
            if gone is not None:
                done = f"an idle {gone.stage} actor is let go"
            self._say(
                f"no {stage} actor has found a place for {_PATIENCE:.0f} s, {state.queued} tasks wait: {done}"
                "; add nodes, or lower pools.gpu_shares and pools.cpu_shares"
            )

"""What people have asked of a run: to pause, and to call shots off."""

from collections.abc import Iterable, Mapping

from actors.pool import Pool
from ltx_ray.ledger.control import Request, Standing
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import CancelRecord
from ltx_ray.types import Stage


class Steering:
    """Does what can be done at once; whom it concerns later asks it."""

    def __init__(
        self, pools: Mapping[Stage, Pool], ledger: Ledger, cancelled: Iterable[str], standing: Standing
    ) -> None:
        """``cancelled``: shots that were called off in an earlier call and have not ended yet."""
        self._pools, self._ledger = pools, ledger
        self._ids = set(cancelled)
        self._all = standing.cancelled
        self.paused = standing.paused
        if self.paused:
            for pool in pools.values():
                pool.pause(True)

    async def obey(self, request: Request) -> None:
        """Take ``request`` in; what is said of named shots is durable then."""
        if request.verb != "cancel":
            self.paused = request.verb == "pause"
            for pool in self._pools.values():
                pool.pause(self.paused)
        elif request.shots is None:
            self._all = True
        else:
            await self._ledger.commit([CancelRecord(shots=request.shots)])
            self._ids.update(request.shots)

    def has_cancelled(self, shot_id: str) -> bool:
        """Whether the shot was called off."""
        return self._all or shot_id in self._ids

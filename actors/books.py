"""The books of a run: what has ended goes into the ledger, then to the world, and then its work may go."""

import asyncio
from collections.abc import Iterable, Sequence

from actors.keeper import Keeper
from actors.observer import Observer
from actors.progress import Tally
from actors.publisher import Publisher
from actors.shot_log import ShotLog
from ltx_ray.config import LimitsConfig
from ltx_ray.ledger.history import History
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.types import ShotResult, Status


class Books:
    """Of one shard. ``keeper``: None where nobody else can write to this OUT."""

    def __init__(
        self,
        ledger: Ledger,
        publisher: Publisher,
        keeper: Keeper | None,
        tally: Tally,
        limits: LimitsConfig,
        shard: str,
        observer: Observer,
    ) -> None:
        self._ledger, self._publisher, self._keeper = ledger, publisher, keeper
        self._observer = observer
        self._tally, self._limits, self._shard = tally, limits, shard
        self._ended: list[tuple[ShotResult, ShotLog]] = []  # what the next commit carries

    async def begin(self, history: History) -> None:
        """Delete what an interrupted call left half-written."""
        await self._publisher.sweep(history, keep_ended=self._limits.keep_work)

    def end(self, result: ShotResult, log: ShotLog) -> None:
        """A row has its result; the next commit carries it."""
        self._ended.append((result, log))

    async def commit(self, records: Sequence[ArtefactRecord] = ()) -> None:
        """Make records and ended shots durable, then tell the world of the shots."""
        ended, self._ended = self._ended, []
        if not (records or ended):
            return
        clock = asyncio.get_running_loop().time
        began = clock()
        await self._ledger.commit([*records, *(result for result, _ in ended)])
        self._observer.committed(clock() - began)
        for result, _ in ended:
            self._tally.end(result)
            self._observer.ended(result)
            await self._publisher.add(result)
        # Side by side: the coordinator waits for it, and a store may take its time for each of them.
        spent = [result.id for result, _ in ended if result.status in (Status.DONE, Status.CANCELLED)]
        await asyncio.gather(
            self._remove([] if self._limits.keep_work else [f"work/{self._shard}/{each}" for each in spent]),
            *(self._write_log(result.id, log) for result, log in ended if log.tells),
        )

    async def close(self, history: History, begun: Iterable[tuple[str, ShotLog]], *, complete: bool) -> None:
        """The call is over, whether the run is ``complete`` or not; ``begun``: shots that have not ended."""
        await self.commit()
        # With --limit, there may be work of shots that this call was not asked for.
        keeps = self._limits.keep_work or self._tally.has_failures or history.has_failures
        if complete and not (keeps or history.artefacts):
            await self._remove([f"work/{self._shard}"])
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.check)
        await self._publisher.finish(
            self._ledger.results,
            complete=complete,
            kept=history.files(),
            may_delete=self._keeper.check if self._keeper else lambda: None,
        )
        stopped = list(begun)
        for _, log in stopped:
            log.say("the run stops here; the same command goes on")
        await asyncio.gather(*(self._write_log(shot_id, log) for shot_id, log in stopped))

    async def _write_log(self, shot_id: str, log: ShotLog) -> None:
        if text := log.text():
            name = f"logs/{self._shard}/{shot_id}.{self._ledger.epoch}.log"
            await self._publisher.write_log(name, text)

    async def _remove(self, folders: Sequence[str]) -> None:
        """Delete folders of OUT that nobody needs any more. Raises LeaseLostError where OUT is another's."""
        if folders and self._keeper is not None:
            await asyncio.to_thread(self._keeper.check)
        await asyncio.gather(*(self._publisher.remove(folder) for folder in folders))

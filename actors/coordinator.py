"""The coordinator: ready tasks -> pools -> receipts -> commit -> newly ready tasks.

Invariants:
- A task is handed out once its needs are committed (durable results) or in memory (tiles), never before.
- A durable result counts once its record is in the ledger; the ledger says it before anything uses it.
- Every manifest row ends as exactly one result; a row that has one already is left alone.
- Payloads pass from actor to actor; here there are only handles and receipts.
It imports neither ray nor torch, and asks the event loop for the time, so that it runs in virtual time too.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

from actors.admission import DecodeQueue, Priority
from actors.pool import Pool, PoolBrokenError
from actors.progress import Progress, Summary, Tally
from actors.publisher import Publisher
from actors.rejection import rejection, row_error
from actors.retry import Verdict, judge
from actors.shot_run import ShotRun
from actors.work import Done, Failure
from ltx_ray.errors import InputLostError, LtxRayError, StorageError, UserError, WorkerLostError
from ltx_ray.ledger.history import History
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.manifest.row import RowError
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.types import Shot, ShotResult, Stage, Status, Task

_SHOTS_PER_FOLDER = 1000  # of OUT/videos, so that no folder becomes too large to list
_ROWS_PER_STEP = 1000  # rejected or skipped between two looks at the pools
Event = tuple[ShotRun, Task, Done]


class Coordinator:
    """Drives one run to its end. ``run`` may be called once, all else at any time, in the loop's thread."""

    def __init__(
        self,
        spec: RunSpec,
        rows: Iterator[Shot | RowError],
        pools: dict[Stage, Pool],
        ledger: Ledger,
        history: History,
        publisher: Publisher,
        *,
        total: int,  # rows
        cost: Callable[[int], float],  # of a row, by its number
        total_cost: float,
        max_active: int,  # shots at a time
        shard: str = "0000",
    ) -> None:
        self._spec = spec
        self._plan_settings = spec.plan_settings()
        self._rows = rows
        self._pools = pools
        self._ledger = ledger
        self._history = history
        self._publisher = publisher
        self._cost = cost
        self._max_active = max_active
        self._shard = shard
        self._active: dict[str, ShotRun] = {}
        self._sequence = itertools.count(len(history))
        self._decodes = DecodeQueue(spec.config.pools.max_decoded_bytes)
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: only look up
        self._in_flight: set[asyncio.Task[None]] = set()
        self._ended: list[ShotResult] = []  # results that the next commit carries
        self._tally = Tally(total, total_cost)
        self._stopping = self._exhausted = self._is_warm = False
        self._fatal: LtxRayError | None = None

    async def run(self) -> Summary:
        """Render everything. Raises what makes going on pointless; all that is committed stays."""
        self._tally.begin(asyncio.get_running_loop().time())
        try:
            while not self._stopping:
                self._admit()
                self._warm_up()
                self._dispatch()
                await self._commit([])
                if self._is_complete:
                    break
                await self._settle(await self._next_events())
        except StorageError as error:
            self._fatal = error
        finally:
            await self._shut_down()
        if self._fatal:
            raise self._fatal
        return self._tally.summary(self.progress(), interrupted=not self._is_complete)

    @property
    def _is_complete(self) -> bool:
        """Whether every row has ended."""
        return self._exhausted and not self._active

    def stop(self) -> None:
        """Hand out nothing more; ``run`` returns soon, and the same command goes on later."""
        self._stopping = True
        self._events.put_nowait(None)

    def progress(self) -> Progress:
        """How far the run is."""
        return self._tally.progress(
            now=asyncio.get_running_loop().time(),
            pools={stage: pool.state() for stage, pool in self._pools.items()},
            waiting={Stage.DECODE: len(self._decodes)},
            running=len(self._active),
            decoded_bytes=self._decodes.in_flight,
        )

    # -- rows become active shots ------------------------------------------------------------------

    def _admit(self) -> None:
        """Bring the active shots up to their bound; the rows that need no work pass by."""
        for _ in range(_ROWS_PER_STEP):
            if self._exhausted or len(self._active) >= self._max_active:
                return
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
            elif isinstance(row, Shot):
                self._admit_shot(row)
            else:
                self._reject(row)
        self._events.put_nowait(None)  # there may be more rows: do not wait for an actor

    def _admit_shot(self, shot: Shot) -> None:
        known = self._history.known(shot.id, shot.fingerprint)
        if known and known.same and known.status in (Status.DONE, Status.FAILED):
            self._tally.skip(known.status, self._cost(shot.row))
            return
        generation = known.generation + 1 if known else 1
        try:
            plan = plan_shot(shot, self._plan_settings)
        except UserError as error:
            self._reject(row_error(shot, str(error)))
            return
        sequence = next(self._sequence)
        records = self._history.artefacts.pop(shot.id, {})
        active = self._active[shot.id] = ShotRun(
            plan,
            {key: r for key, r in records.items() if r.fingerprint == shot.fingerprint},
            sequence=sequence,
            generation=generation,
            epoch=self._ledger.epoch,
            folder=f"{sequence // _SHOTS_PER_FOLDER:05d}",
            work=f"work/{self._shard}/{shot.id}",
            cost=self._cost(shot.row),
        )
        if active.frontier.finished:  # the video was committed, and then the run was cut off
            self._end(active, active.result(self._spec, Status.DONE))

    def _reject(self, error: RowError) -> None:
        result = rejection(error, self._spec)
        known = self._history.known(result.id, result.fingerprint)
        if known and known.same:
            self._tally.skip(Status.REJECTED, 0.0)
        else:
            self._ended.append(replace(result, generation=known.generation + 1 if known else 1))

    # -- ready tasks go to the pools -----------------------------------------------------------------

    def _warm_up(self) -> None:
        """With the first shot, start a worker of every stage: each will be needed."""
        if self._active and not self._is_warm:
            self._is_warm = True
            for pool in self._pools.values():
                pool.warm_up()

    def _dispatch(self) -> None:
        for active in self._active.values():
            for task in active.frontier.take_ready():
                if task.key.stage is Stage.DECODE:
                    self._decodes.hold(self._priority(active, task), active, task)
                else:
                    self._submit(self._priority(active, task), active, task)
        for priority, active, task in self._decodes.admit():
            if active.has_inputs(task):
                self._submit(priority, active, task)
            else:  # a chunk was lost while the task waited
                active.frontier.retry(task.key)

    def _priority(self, active: ShotRun, task: Task) -> Priority:
        """Lower goes first: the row's priority, chains longer than a fair share, the manifest's order."""
        share = self._tally.cost_left / max(self._pools[Stage.DENOISE].state().most, 1)
        is_long = active.remaining_cost > share
        return (-active.shot.priority, not is_long, active.sequence, task.key.index, task.key.tile)

    def _submit(self, priority: Priority, active: ShotRun, task: Task) -> None:
        future = self._pools[task.key.stage].submit(active.job(task), active.inputs(task), priority)
        active.pending.add(future)
        future.add_done_callback(active.pending.discard)

        async def perform() -> None:
            try:
                done = await future
            except WorkerLostError as error:
                done = Done(outcome=Failure.of(error))
            except PoolBrokenError as error:
                self._fatal = self._fatal or error
                self.stop()
                return
            self._events.put_nowait((active, task, done))

        performing = asyncio.get_running_loop().create_task(perform())
        self._in_flight.add(performing)
        performing.add_done_callback(self._in_flight.discard)

    # -- receipts become commits ---------------------------------------------------------------------

    async def _next_events(self) -> list[Event]:
        """What has come by now, after waiting for something to come: it shares a commit."""
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return [event for event in events if event is not None]

    async def _settle(self, events: list[Event]) -> None:
        """Commit what came, then let it count."""
        received = []
        for active, task, done in events:
            if active.closed:
                continue
            if isinstance(done.outcome, Failure):
                self._fail(active, task, done.outcome)
                continue
            record = None
            if done.outcome.artefact is not None:
                record = ArtefactRecord.of(done.outcome, active.shot.fingerprint, active.generation)
            received.append((active, done, done.outcome, record))
        await self._commit([record for *_, record in received if record is not None])
        for active, done, receipt, record in received:
            if active.closed:
                continue
            active.complete(receipt, done, record)
            self._tally.count(receipt)
            if receipt.key.stage is Stage.ASSEMBLE:
                self._decodes.release(active.shot.id, receipt.key.index)
            if active.frontier.finished:
                self._end(active, active.result(self._spec, Status.DONE))

    def _fail(self, active: ShotRun, task: Task, failure: Failure) -> None:
        self._tally.message = f"{active.shot.id} {task.key}: {failure.message}"
        verdict = judge(failure, active.tries[task.key], self._spec.config.limits)
        if verdict is Verdict.STOP:
            self._fatal = self._fatal or StorageError(failure.message)
            self._stopping = True
        elif verdict is Verdict.RETRY:
            self._tally.retries += 1
            if failure.kind == InputLostError.kind:
                active.lose(task, failure.lost)
            active.frontier.retry(task.key)
        elif verdict is Verdict.REJECT:
            self._end(
                active, rejection(row_error(active.shot, failure.message), self._spec, active.generation)
            )
        else:
            text = failure.traceback or failure.message
            self._end(active, active.result(self._spec, Status.FAILED, failure.kind, text))

    def _end(self, active: ShotRun, result: ShotResult) -> None:
        """``active`` is over; the next commit carries its result."""
        self._decodes.drop(active)
        self._tally.spend(self._cost(active.shot.row))
        active.close()
        del self._active[active.shot.id]
        self._ended.append(result)

    async def _commit(self, records: list[ArtefactRecord]) -> None:
        """Make records and ended shots durable, then tell the world of the shots."""
        ended, self._ended = self._ended, []
        await self._ledger.commit([*records, *ended])
        for result in ended:
            self._tally.end(result)
            await self._publisher.add(result)
            if result.status is Status.DONE and not self._spec.config.limits.keep_work:
                await self._publisher.remove(f"work/{self._shard}/{result.id}")

    async def _shut_down(self) -> None:
        for pool in self._pools.values():
            await pool.close()
        for performing in self._in_flight:
            performing.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
        if isinstance(self._fatal, StorageError):
            return  # what is committed is safe; the derived files are made again by the next call
        await self._commit([])
        # With --limit, there may be work of shots that this call was not asked for.
        is_wanted = self._spec.config.limits.keep_work or self._tally.has_failures or self._history.artefacts
        if self._is_complete and not is_wanted:
            await self._publisher.remove(f"work/{self._shard}")
        await self._publisher.finish(self._ledger.results, complete=self._is_complete)

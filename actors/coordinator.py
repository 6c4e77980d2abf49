"""The coordinator: ready tasks -> pools -> receipts -> commit -> newly ready tasks.

Invariants:
- A task is handed out once its needs are committed (durable results) or in memory (tiles), never before.
- A durable result counts once its record is in the ledger; the ledger says it before anything uses it.
- Every manifest row ends as exactly one result; a row that has one already is left alone.
- Payloads pass from actor to actor; here there are only handles and receipts.
It imports neither ray nor torch, and asks the event loop for the time, so that it runs in virtual time too.
"""

import asyncio
from collections.abc import Callable, Iterator

from actors.books import Books
from actors.deadline import Deadlines
from actors.dispatcher import Dispatcher, Event
from actors.intake import Intake, Skipped
from actors.keeper import Keeper
from actors.node_care import Look, NodeCare
from actors.nodes import Nodes
from actors.observer import Observer
from actors.pool import Pool
from actors.progress import Progress, Summary, Tally
from actors.publisher import Publisher
from actors.rejection import rejection, row_error
from actors.retry import BLAMED, Verdict, judge
from actors.room import Room
from actors.shot_log import ShotLog
from actors.shot_run import ShotRun
from actors.sizer import ShotsLeft, Sizer
from actors.steering import Steering
from actors.work import OUT_OF_MEMORY, Failure
from actors.worker import PoolBrokenError
from cluster.capacity import Capacity
from cluster.placement import Placement
from ltx_ray.errors import (
    BadResultError,
    InputLostError,
    LtxRayError,
    RunHopelessError,
    StorageError,
)
from ltx_ray.ledger.control import Request, Standing
from ltx_ray.ledger.history import History
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.manifest.row import RowError
from ltx_ray.run import RunSpec
from ltx_ray.types import Receipt, Shot, ShotResult, Stage, Status, Task

_ROWS_PER_STEP = 1000  # rejected or skipped between two looks at the pools


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
        keeper: Keeper | None = None,  # None: nobody else can write to this OUT
        nodes: Nodes | None = None,  # those of the pools; None: all on one
        look: Look | None = None,  # at the nodes; None: there is but one
        sizer: Sizer | None = None,  # None: the pools stay as large as they are
        standing: Standing | None = None,  # what was asked of a coordinator before this one
        shares: Placement | None = None,  # what an actor takes; None: nothing that counts
        observer: Observer | None = None,  # is told what happens
        *,
        gpu_hours: float = 0.0,  # that a coordinator before this one has used
        total: int,  # rows
        cost: Callable[[int], float],  # of a row, by its number
        total_cost: float,
        max_active: int | None = None,  # shots at a time; None: two for each denoiser
        shard: str = "0000",
    ) -> None:
        self._spec, self._limits = spec, spec.config.limits
        self._pools, self._keeper = pools, keeper
        self._intake = Intake(spec, rows, history, cost, epoch=ledger.epoch, shard=shard)
        self._cost, self._max_active = cost, max_active
        self._active: dict[str, ShotRun] = {}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()  # None: only look up
        self._tally = Tally(total, total_cost, shares.gpus if shares else {}, gpu_hours)
        self._observer = observer or Observer()
        self._books = Books(ledger, publisher, keeper, self._tally, self._limits, shard, self._observer)
        self._failed = 0  # shots, in this call
        self._stopping = self._exhausted = self._is_warm = False
        self._steering = Steering(pools, ledger, history.cancelled, standing or Standing())
        self._deadlines = Deadlines(spec.config)
        self._sizer, say = sizer, self._tally.say
        self._care = NodeCare(nodes or Nodes(), look, Room(pools, say, shares), say, self._resize)
        self._dispatcher = Dispatcher(
            pools,
            self._care,
            self._tally,
            self._deadlines,
            spec.config.pools.max_decoded_bytes,
            self._events.put_nowait,
            self._broke,
        )
        self._fatal: LtxRayError | None = None

    async def run(self) -> Summary:
        """Render everything. Raises what makes going on pointless; all that is committed stays."""
        self._tally.begin(asyncio.get_running_loop().time())
        keeping = [asyncio.create_task(self._care.watch())]
        if self._keeper is not None:
            keeping.append(asyncio.create_task(self._keep(self._keeper)))
        try:
            await self._books.begin(self._intake.history)
            while not self._stopping:
                self._admit()
                self._warm_up()
                if not self._steering.paused:
                    self._dispatcher.dispatch()
                await self._books.commit()
                if self._is_complete:
                    break
                await self._settle(await self._next_events())
        except StorageError as error:
            self._fatal = error
        finally:
            try:
                await self._shut_down()
            finally:
                for each in keeping:
                    each.cancel()
                await asyncio.wait(keeping)
        if self._fatal:
            raise self._fatal
        if self._keeper is not None:
            await self._keeper.end(self.progress(), complete=self._is_complete)
        return self._tally.summary(self.progress(), interrupted=not self._is_complete)

    @property
    def _is_complete(self) -> bool:
        """Whether every row has ended."""
        return self._exhausted and not self._active

    def stop(self) -> None:
        """Hand out nothing more; ``run`` returns soon, and the same command goes on later."""
        self._stopping = True
        self._events.put_nowait(None)

    async def obey(self, request: Request) -> None:
        """Do what a person asks; returns when it is done, and durable where it has to be.

        ``pause``: nothing more begins, what is at work is finished. ``cancel``: shots end as cancelled, also
        such as are still to come.
        """
        await self._steering.obey(request)
        for active in [each for each in self._active.values() if self._steering.has_cancelled(each.shot.id)]:
            self._cancel(active)
        self._events.put_nowait(None)

    def progress(self) -> Progress:
        """How far the run is."""
        return self._tally.progress(
            now=asyncio.get_running_loop().time(),
            pools={stage: pool.state() for stage, pool in self._pools.items()},
            waiting={Stage.DECODE: len(self._dispatcher.decodes)},
            running=len(self._active),
            decoded_bytes=self._dispatcher.decodes.in_flight,
            paused=self._steering.paused,
            quarantined=self._care.quarantined,
        )

    @property
    def peak_decoded_bytes(self) -> int:
        """Most bytes of decoded pixels that were ever in flight."""
        return self._dispatcher.decodes.peak

    def oldest(self) -> dict[Stage, float]:
        """Seconds for which the first task of each stage that could begin has waited."""
        return self._dispatcher.oldest()

    def say(self, message: str) -> None:
        """Tell whoever watches the run."""
        self._tally.say(message)

    async def _keep(self, keeper: Keeper) -> None:
        """Keep the lease; without it nothing more may be written."""
        try:
            await keeper.keep(self.progress, self.obey)
        except Exception as error:  # without it another driver would begin while this one works on
            self._fatal = self._fatal or (
                error if isinstance(error, LtxRayError) else LtxRayError(f"the lease was not kept: {error!r}")
            )
            self.stop()

    # -- rows become active shots ------------------------------------------------------------------

    def _admit(self) -> None:
        """Bring the active shots up to their bound; the rows that need no work pass by."""
        for _ in range(_ROWS_PER_STEP):
            most = self._max_active or 2 * max(self._pools[Stage.DENOISE].most, 1)
            if self._exhausted or len(self._active) >= most:
                return
            match self._intake.next():
                case None:
                    self._exhausted = True
                case Skipped(status, cost):
                    self._tally.skip(status, cost)
                case ShotResult() as result:
                    self._tally.drop(self._cost(result.row))
                    self._books.end(result, ShotLog())
                case ShotRun() as active:
                    self._begin(active)
        self._events.put_nowait(None)  # there may be more rows: do not wait for an actor

    def _begin(self, active: ShotRun) -> None:
        self._active[active.shot.id] = active
        self._dispatcher.touch(active)
        self._tally.drop(active.cost - active.remaining_cost)
        if self._sizer:
            self._sizer.admit(active.plan.tasks)
        self._observer.begins(active)
        if active.frontier.finished:  # the video was committed, and then the run was cut off
            self._end(active, active.result(self._spec, Status.DONE))
        elif self._steering.has_cancelled(active.shot.id):
            self._cancel(active)

    def _warm_up(self) -> None:
        """With the first shot, start a worker of every stage: each will be needed."""
        if self._active and not self._is_warm:
            self._is_warm = True
            for pool in self._pools.values():
                pool.warm_up()

    # -- receipts become commits ---------------------------------------------------------------------

    async def _next_events(self) -> list[Event]:
        """What has come by now, after waiting for something to come: it shares a commit."""
        await asyncio.sleep(0)  # while rows pass by, others get their turn too: the lease, signals, progress
        events = [await self._events.get()]
        while not self._events.empty():
            events.append(self._events.get_nowait())
        return [event for event in events if event is not None]

    async def _settle(self, events: list[Event]) -> None:
        """Commit what came, then let it count."""
        received = []
        for active, task, done in events:
            self._tally.use(task.key.stage, done.seconds)
            if active.closed:
                continue
            if isinstance(done.outcome, Failure):
                self._fail(active, task, done.outcome, done.worker_node)
                continue
            record = None
            if done.outcome.artefact is not None:
                record = ArtefactRecord.of(done.outcome, active.shot.fingerprint, active.generation)
            received.append((active, done, done.outcome, record))
        await self._books.commit([record for *_, record in received if record is not None])
        for active, done, receipt, record in received:
            if active.closed:
                continue
            before = active.remaining_cost
            active.complete(receipt, done, record)
            self._tally.spend(before - active.remaining_cost)
            self._dispatcher.touch(active)
            self._learn(receipt, active.cost_of(receipt.key))
            self._care.succeeded(done.worker_node, active.place(receipt.key))
            self._tally.count(receipt)
            self._observer.done(active, receipt, done)
            if receipt.key.stage is Stage.ASSEMBLE:
                self._dispatcher.encoded(active, receipt.key.index)
            if active.frontier.finished:
                self._end(active, active.result(self._spec, Status.DONE))
        spent = self._tally.overspent(self._limits.max_gpu_hours)
        if spent is not None and not (self._stopping or self._is_complete):
            self._fatal = self._fatal or spent
            self.stop()

    def _broke(self, error: PoolBrokenError) -> None:
        """Nothing of a stage can ever be done."""
        self._fatal = self._fatal or error
        self.stop()

    def _learn(self, receipt: Receipt, cost: float) -> None:
        self._deadlines.learn(receipt.key.stage, cost, receipt.seconds)
        if self._sizer:
            self._sizer.learn(receipt.key.stage, cost, receipt.seconds)

    def _resize(self, capacity: Capacity) -> None:
        if self._sizer:
            active = len(self._active)
            self._sizer.look(capacity, ShotsLeft(waiting=self._tally.rows_left - active, active=active))
            self._events.put_nowait(None)  # there may be room for more shots

    def _fail(self, active: ShotRun, task: Task, failure: Failure, node: str) -> None:
        self._tally.say(f"{active.shot.id} {task.key}: {failure.message}")
        divisible = task.key.stage is Stage.DECODE and not self._spec.config.reproducible
        was_alone = active.tries[task.key].alone
        verdict = judge(failure, active.tries[task.key], self._limits, divisible=divisible)
        active.log.failed(task.key, failure, node, verdict)
        self._observer.failed(active, task, failure, node, verdict)
        if verdict is Verdict.STOP:
            self._fatal = self._fatal or StorageError(failure.message)
            self._stopping = True
        elif verdict is Verdict.RETRY:
            self._tally.retries += 1
            if failure.kind == InputLostError.kind:
                before = active.remaining_cost
                active.lose(task, failure.lost)
                self._tally.spend(before - active.remaining_cost)
            else:
                self._care.failed(node, active.place(task.key), counts=failure.kind in BLAMED)
            if failure.kind == BadResultError.kind and task.key.stage is Stage.ASSEMBLE:
                active.lose(task, ())  # its tiles are decoded anew: they may be what is bad
            self._dispatcher.retry(active, task)
        elif verdict is Verdict.REJECT:
            wrong = row_error(active.shot, failure.message)
            self._end(active, rejection(wrong, self._spec, active.generation))
        else:
            text = failure.traceback or failure.message
            if failure.kind == OUT_OF_MEMORY and failure.needed:
                text = f"{text.rstrip()}\n{failure.needed}{' (alone on its node)' if was_alone else ''}"
            self._end(active, active.result(self._spec, Status.FAILED, failure.kind, text))

    def _cancel(self, active: ShotRun) -> None:
        self._end(active, active.result(self._spec, Status.CANCELLED, "cancelled", "cancelled by request"))

    def _end(self, active: ShotRun, result: ShotResult) -> None:
        """``active`` is over; the next commit carries its result."""
        if result.status is Status.FAILED:
            self._failed += 1
            if self._failed == self._limits.max_failures:
                self._fatal = self._fatal or RunHopelessError(
                    f"{self._failed} shots have failed, as many as limits.max_failures allows; the last "
                    f"was {result.id} ({result.error_kind}): mend it, then give `ltx-ray retry OUT --failed`"
                )
                self.stop()
        self._dispatcher.drop(active)
        self._care.forget(active.shot.id)
        self._tally.drop(active.remaining_cost)
        active.close()
        self._observer.leaves(active)
        del self._active[active.shot.id]
        why = f", {result.error_kind}" if result.status is Status.FAILED else ""
        active.log.say(f"ends: {result.status}{why}")
        self._books.end(result, active.log)

    async def _shut_down(self) -> None:
        for pool in self._pools.values():
            await pool.close(settled=self._is_complete)
        await self._dispatcher.close()
        if isinstance(self._fatal, StorageError):
            return  # what is committed is safe; the derived files are made again by the next call
        begun = [(shot_id, active.log) for shot_id, active in self._active.items()]
        await self._books.close(self._intake.history, begun, complete=self._is_complete)

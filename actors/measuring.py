"""What the metrics of a run say: told by the coordinator of each event, and by its host of each look."""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from actors.observer import Observer
from actors.progress import Progress, StageProgress
from actors.retry import Verdict
from actors.shot_run import ShotRun
from actors.work import Done, Failure
from cluster.capacity import Seen
from cluster.metrics import Metrics
from ltx_ray.planning.chunks import final_frames
from ltx_ray.planning.plan import CONDITION
from ltx_ray.run import RunSpec
from ltx_ray.types import Chunk, Receipt, ShotResult, Slab, Stage, Status, Task

_REMEMBERED = 3600.0  # seconds for which the series of a node that has gone are kept


@dataclass(slots=True)
class _Chain:
    """The chunks of one shot in work."""

    left: int = 0  # that are not there; 0 until the shot is conditioned
    ended: float | None = None  # when the work on the last one that is there ended, by the loop's clock


class Measuring(Observer):
    """Feeds ``metrics``. All methods are for the loop's thread, and none waits."""

    def __init__(self, metrics: Metrics, run: RunSpec, gpu_shares: Mapping[Stage, float]) -> None:
        self._m, self._run, self._gpu_shares = metrics, run, gpu_shares
        self._chains: dict[str, _Chain] = {}
        self._chunks_left = 0
        self._longest = dict.fromkeys(Stage, 0.0)
        self._peaks: dict[tuple[str, str, str], int] = {}
        self._last_done = time.time()
        self._looked: float | None = None
        self._seen = Seen()
        self._hosts: dict[str, str] = {}  # of nodes that were seen and are not forgotten
        self._gone: dict[str, float] = {}  # nodes, and since when
        metrics.decoded_most.set(run.config.pools.max_decoded_bytes)
        metrics.price.set(run.config.metrics.price_per_gpu_hour)
        metrics.estimate.set(math.nan)

    # -- events ------------------------------------------------------------------------------------

    def begins(self, active: ShotRun) -> None:
        """A shot is in work now."""
        self._chains[active.shot.id] = _Chain()
        self._follow(active)

    def done(self, active: ShotRun, receipt: Receipt, done: Done) -> None:
        """A task ended well."""
        stage, gpu_type = receipt.key.stage, receipt.device
        self._m.seconds[stage, gpu_type].observe(receipt.seconds)
        self._last_done = time.time()
        if receipt.seconds > self._longest[stage]:
            self._longest[stage] = receipt.seconds
            self._m.longest[stage].set(receipt.seconds)
        place = stage.value, gpu_type, receipt.node
        if receipt.peak_bytes > self._peaks.get(place, 0):
            self._peaks[place] = receipt.peak_bytes
            self._m.peak[place].set(receipt.peak_bytes)
        self._count_pixels(active, active.frontier.task(receipt.key))
        if stage is Stage.DENOISE:
            self._m.chunks["done"].inc()
            chain = self._chains[active.shot.id]
            if receipt.key.index and chain.ended is not None:
                self._m.overlap_wait.observe(max(done.ended - done.seconds - chain.ended, 0.0))
            chain.ended = done.ended
        if stage in (Stage.CONDITION, Stage.DENOISE):
            self._follow(active)

    def failed(self, active: ShotRun, task: Task, failure: Failure, node: str, verdict: Verdict) -> None:
        """A try of ``task`` failed."""
        stage, is_tried_again = task.key.stage, verdict is Verdict.RETRY
        self._m.failures[stage, failure.kind, self._hosts.get(node, node)].inc()
        if is_tried_again:
            self._m.retries[stage, failure.kind].inc()
        if stage is Stage.DENOISE:
            self._m.chunks["retried" if is_tried_again else "failed"].inc()

    def leaves(self, active: ShotRun) -> None:
        """A shot is not in work any more."""
        self._chunks_left -= self._chains.pop(active.shot.id).left

    def committed(self, seconds: float) -> None:
        """The ledger has taken something."""
        self._m.commit.observe(seconds)

    def ended(self, result: ShotResult) -> None:
        """A row has its result."""
        self._m.shots[result.status].inc()

    def _follow(self, active: ShotRun) -> None:
        chain = self._chains[active.shot.id]
        left = active.chunks_left if CONDITION in active.records else 0
        self._chunks_left += left - chain.left
        chain.left = left

    def _count_pixels(self, active: ShotRun, task: Task) -> None:
        stage, shot = task.key.stage, active.shot
        if stage is Stage.DECODE:  # most tasks are
            self._m.pixels[stage].inc(task.made_bytes // 3)
            return
        if stage is Stage.CONDITION:
            return
        frames = shot.num_frames
        if isinstance(task.work, Chunk):
            start, stop = final_frames(task.work, shot.num_frames, self._run.ratios)
            frames = max(stop - start, 0)
        elif isinstance(task.work, Slab):
            frames = task.work.num_frames
        self._m.frames[stage].inc(frames)
        self._m.pixels[stage].inc(frames * shot.width * shot.height)

    # -- looks -------------------------------------------------------------------------------------

    def look(self, progress: Progress, oldest: Mapping[Stage, float], lag: float = 0.0) -> None:
        """How the run is now. What pools did since the last look is added up from what they do now, so looks
        should be frequent. ``lag``: seconds by which this one is late."""
        m, now = self._m, asyncio.get_running_loop().time()
        seconds = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        m.paused.set(progress.paused)
        m.estimate.set(math.nan if progress.eta is None else progress.eta)
        m.lag.set(lag)
        m.last_task.set(self._last_done)
        m.decoded.set(progress.decoded_bytes)
        m.rows.set(progress.total)
        m.rows_waiting.set(max(progress.total - progress.ended - progress.running, 0))
        m.active.set(progress.running)
        for status in Status:
            m.rows_ended[status].set(getattr(progress, status.value))
        for name, state in progress.stages.items():
            self._look_at(Stage(name), state, seconds)
            m.oldest[name].set(oldest.get(Stage(name), 0.0))
        if chunks := progress.stages.get(Stage.DENOISE):
            waiting = max(self._chunks_left - chunks.queued - chunks.running, 0)
            m.chunks_waiting.set(waiting)
            if not (chunks.queued or progress.paused):
                m.overlap_idle.inc(seconds * min(chunks.workers - chunks.running, waiting))
        self._look_at_nodes(set(progress.quarantined), now)

    def saw(self, seen: Seen) -> None:
        """Which nodes there are."""
        now = asyncio.get_running_loop().time()
        for node in self._seen.living - seen.living:
            self._m.nodes_gone[seen.gone.get(node, "lost")].inc()
            self._gone[node] = now
        self._hosts.update(seen.hosts)
        self._seen = seen

    def _look_at(self, stage: Stage, state: StageProgress, seconds: float) -> None:
        m, share = self._m, self._gpu_shares.get(stage, 0.0)
        m.queued[stage].set(state.queued)
        m.most[stage].set(state.most)
        m.wanted[stage].set(state.workers + state.launching)
        for what, count in (
            ("busy", state.running),
            ("idle", state.workers - state.running),
            ("launching", state.launching - state.unplaced),
            ("unplaced", state.unplaced),
        ):
            m.actors[stage.value, what].set(count)
        held = state.workers + state.launching - state.unplaced
        m.busy[stage].inc(seconds * state.running)
        m.there[stage].inc(seconds * state.workers)
        m.gpu_busy.inc(seconds * share * state.running)
        m.gpu_held.inc(seconds * share * held)
        m.cost.inc(seconds * share * held * self._run.config.metrics.price_per_gpu_hour / 3600)

    def _look_at_nodes(self, quarantined: set[str], now: float) -> None:
        living, draining = self._seen.living, self._seen.draining
        self._m.nodes["ready"].set(len(living - draining - quarantined))
        self._m.nodes["draining"].set(len(draining))
        self._m.nodes["quarantined"].set(len(living & quarantined))
        hosts = {self._hosts.get(node, node) for node in living}
        out = {self._hosts.get(node, node) for node in quarantined}
        for host in hosts:
            self._m.quarantined[host].set(host in out)
        for node in [node for node, since in self._gone.items() if now - since > _REMEMBERED]:
            del self._gone[node]
            host = self._hosts.pop(node, node)
            if host not in hosts:  # a machine may be a node again
                self._m.forget(host)
                self._peaks = {place: peak for place, peak in self._peaks.items() if place[-1] != host}

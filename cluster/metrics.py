"""What is measured of a run: every metric with its labels, on a registry of its own.

Names are ``ltx_ray_*``, units are seconds and bytes. Every series carries ``run`` and ``shard``, so that one
Prometheus tells runs apart however it has found them; none carries a shot. ``actors/measuring.py`` feeds
them, docs/metrics.md lists them for people.
"""

import platform
import time
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Generic, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ltx_ray.types import Stage, Status
from ltx_ray.version import __version__

# From a tile on a GPU to a 4K chunk on a slow one.
_TASK_SECONDS = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0),
)
_COMMIT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# Series that are known ahead are there from the start, at zero: else their first event is no increase.
_STAGES = tuple(stage.value for stage in Stage)
_OUTCOMES = tuple(status.value for status in Status)
_KINDS = ("bad_result", "input_lost", "internal", "out_of_memory", "storage", "timeout", "worker_lost")
M = TypeVar("M", Counter, Gauge, Histogram)


class Series(dict[str | tuple[str, ...], M], Generic[M]):
    """The series of one metric by the values of their labels, each looked up once: a lookup in the metric
    itself costs more than an increase. What is not there is made."""

    def __init__(self, metric: M, *known: Iterable[str]) -> None:
        super().__init__()
        self._metric: M = metric
        for values in product(*known) if known else ():
            self[values if len(values) > 1 else values[0]]

    def __missing__(self, values: str | tuple[str, ...]) -> M:
        child: M = self._metric.labels(*((values,) if isinstance(values, str) else values))
        self[values] = child
        return child

    def forget(self, value: str) -> None:
        """Drop the series that have ``value`` among the values of their labels."""
        for values in [
            values for values in self if value in ((values,) if isinstance(values, str) else values)
        ]:
            self._metric.remove(*((values,) if isinstance(values, str) else values))
            del self[values]


class Metrics:
    """The metrics of one coordinator. They may be changed and read in any thread."""

    def __init__(self, run: str, shard: str, facts: dict[str, str]) -> None:
        """``facts``: what ``ltx_ray_run_info`` says of the run."""
        self._metrics = CollectorRegistry()
        self._labelled = _Labelled(self._metrics, {"run": run, "shard": shard})
        self._scrapes = _Scrapes(self._labelled)
        self.registry = CollectorRegistry()  # what is served
        self.registry.register(self._scrapes)
        Info("ltx_ray_run", "What the run is.", registry=self._metrics).info(facts)
        build = Info("ltx_ray_build", "The program.", registry=self._metrics)
        build.info({"version": __version__, "python": platform.python_version()})
        ProcessCollector(namespace="ltx_ray_coordinator", registry=self._metrics)
        self._of_the_run()
        self._of_shots()
        self._of_stages()
        self._of_nodes()

    @property
    def scraped_at(self) -> float | None:
        """When the last scrape that has ended began, by ``time.monotonic``; None: there was none."""
        return self._scrapes.began

    def text(self) -> bytes:
        """All of it in Prometheus's text format; this is no scrape."""
        return generate_latest(self._labelled)

    def forget(self, node: str) -> None:
        """Drop the series of a node that has gone."""
        self.peak.forget(node)
        self.failures.forget(node)
        self.quarantined.forget(node)

    def _of_the_run(self) -> None:
        gauge = self._gauge
        self.running = gauge("running", "1 while the coordinator works, 0 once its call has ended.")
        self.paused = gauge("paused", "1 while the run is paused by request.")
        self.epoch = gauge("epoch", "Which call of the command on this OUT it is, from 1.")
        self.started = gauge("start_timestamp_seconds", "When this call began.")
        self.started.set(time.time())
        self.lease = gauge("lease_renewed_timestamp_seconds", "When the lease on OUT was last renewed.")
        self.last_task = gauge(
            "last_task_timestamp_seconds", "When a task last ended well; first, the start."
        )
        self.last_task.set(time.time())
        self.estimate = gauge(
            "estimated_seconds_left", "To the end, at the present rate; NaN: not known yet."
        )
        self.lag = gauge("loop_lag_seconds", "How late the coordinator's event loop was at the last look.")
        self.commit = self._histogram("commit_seconds", "Of commits to the ledger.", _COMMIT_SECONDS)
        self.gpu_busy = self._counter("gpu_busy_seconds_total", "Seconds of GPUs whose actors had a task.")
        self.gpu_held = self._counter("gpu_held_seconds_total", "Seconds of GPUs that actors held.")
        self.cost = self._counter("cost_total", "GPU-hours held, times metrics.price_per_gpu_hour.")
        self.price = gauge("gpu_price_per_hour", "metrics.price_per_gpu_hour.")
        self.decoded = gauge("decoded_bytes", "Decoded pixels in flight.")
        self.decoded_most = gauge("decoded_bytes_max", "pools.max_decoded_bytes.")

    def _of_shots(self) -> None:
        gauge, counter = self._gauge, self._counter
        self.rows = gauge("manifest_rows", "Rows that this call is asked for.")
        self.rows_waiting = gauge("manifest_rows_waiting", "Rows that have not begun.")
        text = "Rows that have ended, in this or an earlier call."
        self.rows_ended = Series(gauge("manifest_rows_ended", text, "outcome"), _OUTCOMES)
        self.active = gauge("active_shots", "Shots in work.")
        self.shots = Series(counter("shots_total", "Shots that ended in this call.", "outcome"), _OUTCOMES)
        text = "Tries of chunks that ended, by what followed."
        self.chunks = Series(counter("chunks_total", text, "outcome"), ("done", "retried", "failed"))
        text = (
            "Chunks of shots in work that cannot begin: the chunk before, or the conditioning, is not there."
        )
        self.chunks_waiting = gauge("chunks_waiting", text)
        text = "Of each chunk but a shot's first: from the end of the chunk before to its own beginning."
        self.overlap_wait = self._histogram("overlap_wait_seconds", text, _TASK_SECONDS)
        text = "Seconds of denoisers without work while chunks waited for the chunk before them."
        self.overlap_idle = counter("overlap_idle_seconds_total", text)

    def _of_stages(self) -> None:
        gauge, counter = self._gauge, self._counter
        text = "Of tasks that ended well."
        self.seconds = Series(self._histogram("stage_seconds", text, _TASK_SECONDS, "stage", "gpu_type"))
        self.longest = Series(gauge("stage_longest_seconds", "The longest of these.", "stage"), _STAGES)
        text = "Frames that became final (denoise), were encoded (assemble), are in finished videos (finish)."
        self.frames = Series(counter("frames_total", text, "stage"), ("denoise", "assemble", "finish"))
        text = "Pixels of these frames; of decoded tiles (decode), with what is blended."
        self.pixels = Series(counter("pixels_total", text, "stage"), _STAGES[1:])
        self.queued = Series(gauge("queue_tasks", "Tasks that could begin, and wait.", "stage"), _STAGES)
        text = "How long the first of these has waited."
        self.oldest = Series(gauge("queue_oldest_seconds", text, "stage"), _STAGES)
        text = "Actors by what they do: launching ones load their part, unplaced ones wait for a node."
        states = ("busy", "idle", "launching", "unplaced")
        self.actors = Series(gauge("pool_actors", text, "stage", "state"), _STAGES, states)
        text = "Actors that are there or asked for."
        self.wanted = Series(gauge("pool_actors_wanted", text, "stage"), _STAGES)
        self.most = Series(gauge("pool_actors_max", "Actors that there may be.", "stage"), _STAGES)
        self.busy = Series(counter("busy_seconds_total", "Seconds of actors with a task.", "stage"), _STAGES)
        self.there = Series(counter("actor_seconds_total", "Seconds of actors.", "stage"), _STAGES)
        text = "Tasks that were tried again, by why."
        self.retries = Series(counter("retries_total", text, "stage", "kind"), _STAGES, _KINDS)
        self.failures = Series(counter("task_failures_total", "Tries that failed.", "stage", "kind", "node"))

    def _of_nodes(self) -> None:
        gauge = self._gauge
        text = "Nodes by whether they get work."
        self.nodes = Series(gauge("nodes", text, "state"), ("ready", "draining", "quarantined"))
        text = "Nodes that went away: preempted, lost, idle (the cluster shrank), ended (by request)."
        reasons = ("preempted", "lost", "idle", "ended")
        self.nodes_gone = Series(self._counter("nodes_gone_total", text, "reason"), reasons)
        self.quarantined = Series(gauge("node_quarantined", "1 where a node is left out.", "node"))
        text = "Most memory that an actor has held: of its GPU, or of its process on a CPU."
        self.peak = Series(gauge("actor_peak_bytes", text, "stage", "gpu_type", "node"))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ltx_ray_{name}", text, labels, registry=self._metrics)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ltx_ray_{name}", text, labels, registry=self._metrics)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"ltx_ray_{name}", text, labels, registry=self._metrics, buckets=buckets)


class _Labelled(Collector):
    """A registry whose samples have some more labels. Dates of creation are left out: they would be a third
    of all series."""

    def __init__(self, registry: CollectorRegistry, labels: dict[str, str]) -> None:
        self._registry, self._labels = registry, labels

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            family.samples = [each._replace(labels={**each.labels, **self._labels}) for each in samples]
            yield family


class _Scrapes(Collector):
    """Knows when somebody has looked."""

    def __init__(self, families: Collector) -> None:
        self._families = families
        self.began: float | None = None

    def collect(self) -> Iterator[Metric]:
        began = time.monotonic()
        yield from self._families.collect()
        self.began = began

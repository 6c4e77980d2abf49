"""What passes between the coordinator and an actor, and the shape that all actors share."""

import os
import resource
import socket
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from ltx_ray.errors import InputLostError, LtxRayError
from ltx_ray.redact import redacted
from ltx_ray.run import RunSpec
from ltx_ray.storage import Store, sha256_of
from ltx_ray.types import Artefact, Job, Receipt, Stage

OUT_OF_MEMORY = "out_of_memory"
# How many payloads a stage hands on in memory, besides its receipt.
PARTS = {Stage.CONDITION: 1, Stage.DENOISE: 1, Stage.DECODE: 2, Stage.ASSEMBLE: 0, Stage.FINISH: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How a task came to nothing. Travels by value, so that no error class has to survive pickling."""

    kind: str  # LtxRayError.kind, or "internal"
    message: str
    traceback: str
    retryable: bool
    lost: tuple[str, ...] = ()  # names of durable inputs that could not be read
    peak_bytes: int = 0  # that the actor has ever held, where that is of interest

    @property
    def needed(self) -> str:
        """What there was of memory, in words; "" where nobody knows."""
        held = f"{self.peak_bytes / 2**30:.1f} GiB"
        return f"the actor held up to {held} when its memory ran out" if self.peak_bytes else ""

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """``error`` as a value."""
        is_ours = isinstance(error, LtxRayError)
        kind = error.kind if isinstance(error, LtxRayError) else _foreign_kind(error)
        return cls(
            kind=kind,
            message=redacted(str(error) if is_ours else f"{type(error).__name__}: {error}"),
            traceback=redacted("".join(traceback.format_exception(error))),
            retryable=error.retryable if isinstance(error, LtxRayError) else True,
            lost=tuple(error.args[1:]) if isinstance(error, InputLostError) else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What comes back from a pool: receipt or failure by value, payloads as the pool's handles."""

    outcome: Receipt | Failure
    parts: tuple[Any, ...] = ()
    worker_node: str = ""  # Worker.node of the one that did it
    seconds: float = 0.0  # for which it was at work
    ended: float = 0.0  # when, by the loop's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What an actor made of a job."""

    artefact: Artefact | None = None
    parts: tuple[Any, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class StageActor(ABC):
    """A stage's actor: stateless between jobs. A plain class; the Ray pool wraps it where it spawns it."""

    device_name = "cpu"

    def __init__(self, run: RunSpec) -> None:
        self._run = run
        self._store = Store(run.out)
        self._node = socket.gethostname()

    @abstractmethod
    def work(self, job: Job, inputs: Sequence[Any]) -> Made:
        """Do ``job``. An input is a payload, or the Artefact from whose file it is to be read."""

    def ready(self) -> str:
        """Answers once the actor is made; the answer names its device."""
        return self.device_name

    def run(self, job: Job, *inputs: Any) -> tuple[Any, ...]:
        """(receipt or failure, payloads ...): ``PARTS[stage]`` payloads, None where the task failed."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            made = self.work(job, inputs)
        except Exception as error:  # the coordinator decides what a failure means
            failure = Failure.of(error)
            if failure.kind == OUT_OF_MEMORY:
                failure = replace(failure, peak_bytes=self._peak_bytes())
            return (failure, *[None] * PARTS[job.task.key.stage])
        receipt = Receipt(
            shot_id=job.shot.id,
            key=job.task.key,
            attempt=job.attempt,
            seconds=time.perf_counter() - wall,
            cpu_seconds=time.process_time() - cpu,
            peak_bytes=self._peak_bytes(),
            held_bytes=psutil.Process().memory_info().rss,
            node=self._node,
            device=self.device_name,
            pid=os.getpid(),
            artefact=made.artefact,
            facts=made.facts,
        )
        return (receipt, *made.parts)

    def read(self, source: Any) -> bytes:
        """The bytes of an input: the payload itself, or the file of an Artefact, checked against its hash."""
        if not isinstance(source, Artefact):
            return bytes(source)
        try:
            data = self._store.read(source.name)
        except FileNotFoundError as error:
            raise InputLostError(f"{source.name} is gone", source.name) from error
        if sha256_of(data) != source.sha256:
            raise InputLostError(f"{source.name} is not what was committed", source.name)
        return data

    def save(self, job: Job, data: bytes) -> Artefact:
        """Write ``data`` durably under the job's own name."""
        self._store.write(job.output, data)
        return Artefact(name=job.output, sha256=sha256_of(data), bytes=len(data))

    def _peak_bytes(self) -> int:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _foreign_kind(error: Exception) -> str:
    is_memory = (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # of torch, on a GPU
        or "can't allocate memory" in str(error)  # of torch, on a CPU
    )
    return OUT_OF_MEMORY if is_memory else LtxRayError.kind

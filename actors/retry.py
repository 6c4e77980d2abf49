"""What a failure means: pure decisions, no clocks."""

from dataclasses import dataclass
from enum import Enum

from actors.work import OUT_OF_MEMORY, Failure
from ltx_ray.config import LimitsConfig
from ltx_ray.errors import (
    BadResultError,
    InputLostError,
    LtxRayError,
    StorageError,
    TaskHungError,
    WorkerLostError,
)


class Verdict(Enum):
    """What to do after a failure."""

    RETRY = "it is tried again"
    REJECT = "the row is rejected"  # the user's row is wrong
    FAIL = "the shot has failed"
    STOP = "the run stops"  # nobody could succeed; everything stays resumable


@dataclass(slots=True)
class Tries:
    """How often a task was tried, and how often it failed for whose reasons."""

    attempts: int = 0
    failures: int = 0  # its own
    losses: int = 0  # of actors, nodes and payloads
    alone: bool = False  # the next one has its node for itself
    halvings: int = 0  # so often the next one halves what it does


# Errors of the row itself, found when its files are opened; every other user's error fails the shot.
_REJECTED = {"media", "user", "rejected"}
# What may be a node's fault, if others do well what fails there. Storage and servers fail for all at once,
# and what runs out of memory is tried otherwise the next time.
BLAMED = {LtxRayError.kind, BadResultError.kind, TaskHungError.kind}
# Tries of what would end the same way each time, but for a fault of the machine.
_TRIES = {BadResultError.kind: 2}


def judge(failure: Failure, tries: Tries, limits: LimitsConfig, *, divisible: bool = False) -> Verdict:
    """Decide, and count the failure in ``tries``.

    A lost actor or payload says little about the shot, so it may happen ``max_worker_losses`` times; what the
    task raised itself counts against ``max_attempts``. A bad result is tried once more, and so is what ran
    out of memory, by a fresh actor that has its node for itself. Storage that goes on failing is not the
    shot's fault. ``divisible``: the task may be done in parts, which is tried ``max_attempts`` times.
    """
    if failure.kind in (WorkerLostError.kind, InputLostError.kind):
        tries.losses += 1
        return Verdict.RETRY if tries.losses < limits.max_worker_losses else Verdict.FAIL
    if not failure.retryable:
        return Verdict.REJECT if failure.kind in _REJECTED else Verdict.FAIL
    tries.failures += 1
    most = min(limits.max_attempts, _TRIES.get(failure.kind, limits.max_attempts))
    if failure.kind == OUT_OF_MEMORY:
        most = limits.max_attempts if divisible or not tries.alone else 0
        tries.alone = True
        tries.halvings += divisible
    if tries.failures < most:
        return Verdict.RETRY
    return Verdict.STOP if failure.kind == StorageError.kind else Verdict.FAIL

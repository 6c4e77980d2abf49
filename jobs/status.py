"""How a run is, told from OUT alone: by its ledger, and by what its driver said last."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.progress import Progress, StageProgress
from actors.publisher import current
from ltx_ray.errors import ConfigError
from ltx_ray.ledger.lease import DEAD_AFTER_S, LeaseRecord, is_gone, read_lease
from ltx_ray.ledger.ledger import read_results
from ltx_ray.past_run import is_run
from ltx_ray.run import RUN_FILE
from ltx_ray.storage import Store
from ltx_ray.types import ShotResult, Status

_FAILURES_TOLD = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """Who writes to OUT, or did."""

    state: str  # "running", "paused", "ended", "gone" (killed), "silent" (out of reach, or dead elsewhere)
    host: str
    pid: int
    epoch: int  # how many drivers have written to OUT, this one too
    seconds_ago: float  # since it was heard of


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run at one moment."""

    output: str
    model: str
    version: str
    driver: Driver | None  # None: nobody ever wrote
    total: int | None  # manifest rows; None: the driver has not said yet
    ended: dict[str, int]  # shots by how they ended
    failed_by_kind: dict[str, int]
    failures: tuple[tuple[str, str], ...]  # (id, error), the first of those that failed
    progress: Mapping[str, Any] | None  # of the driver's call, as it said last


def report(out: str) -> Report:
    """Read how the run in ``out`` is. Raises ConfigError where there is none."""
    store = opened(out)
    run = json.loads(store.read(RUN_FILE))
    lease = read_lease(store)
    ended: Counter[str] = Counter(dict.fromkeys(Status, 0))
    kinds: Counter[str] = Counter()
    failures: list[tuple[str, str]] = []
    for result in current_results(store):
        ended[result.status.value] += 1
        if result.status is Status.FAILED:
            kinds[result.error_kind or "internal"] += 1
            if len(failures) < _FAILURES_TOLD:
                failures.append((result.id, result.error or ""))
    progress = lease.progress if lease else None
    return Report(
        output=out,
        model=run["model"],
        version=run["version"],
        driver=driver_of(lease) if lease else None,
        total=progress["total"] if progress else None,
        ended=dict(ended),
        failed_by_kind=dict(kinds),
        failures=tuple(failures),
        progress=progress,
    )


def is_begun(out: str) -> bool:
    """Whether there is a run in ``out``."""
    return is_run(Store(out))


def opened(out: str) -> Store:
    """The store of a run. Raises ConfigError where ``out`` holds none."""
    store = Store(out)
    if not is_run(store):
        raise ConfigError(f"OUT must be the --output of a run, got {out}: there is no {RUN_FILE} in it")
    return store


def current_results(store: Store) -> "list[ShotResult]":
    """Of each shot its last result, as of one moment: a driver may be writing."""
    results = list(read_results(store))
    return list(current(lambda: iter(results)))


def driver_of(lease: LeaseRecord) -> Driver:
    """What is known of the writer of ``lease``."""
    age = max(time.time() - lease.time, 0.0)
    if lease.ended:
        state = "ended"
    elif is_gone(lease):
        state = "gone"
    elif age > DEAD_AFTER_S:
        state = "silent"
    else:
        state = "paused" if lease.progress and lease.progress["paused"] else "running"
    return Driver(state=state, host=lease.host, pid=lease.pid, epoch=lease.epoch, seconds_ago=age)


def progress_of(values: Mapping[str, Any]) -> Progress:
    """What ``asdict`` made of a ``Progress``."""
    stages = {name: StageProgress(**stage) for name, stage in values["stages"].items()}
    return Progress(**{**values, "stages": stages})

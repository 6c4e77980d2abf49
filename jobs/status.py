"""How a run is, told from OUT alone: by its ledger, and by what its driver said last."""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from actors.progress import Progress, StageProgress
from actors.publisher import current
from ltx_ray.errors import ConfigError
from ltx_ray.ledger.lease import DEAD_AFTER_S, LeaseRecord, is_gone, read_lease
from ltx_ray.ledger.ledger import read_results
from ltx_ray.past_run import is_run
from ltx_ray.run import RUN_FILE, check_division, num_shards
from ltx_ray.shard import Shard
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
class ShardReport:
    """One shard of a run that is divided, at one moment."""

    shard: str  # "3/8"
    driver: Driver | None  # None: nobody ever wrote
    total: int | None  # rows of the manifest that are its own; None: the driver has not said yet
    ended: dict[str, int]  # shots by how they ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run at one moment; of one that is divided, all of it together."""

    output: str
    model: str
    version: str
    driver: Driver | None  # None: nobody ever wrote; of several shards: the one that is most alive
    total: int | None  # manifest rows; None: the driver, or that of some shard, has not said yet
    ended: dict[str, int]  # shots by how they ended
    failed_by_kind: dict[str, int]
    failures: tuple[tuple[str, str], ...]  # (id, error), the first of those that failed
    progress: Mapping[str, Any] | None  # of the driver's call, as it said last; of several, added up
    shards: tuple[ShardReport, ...] = ()  # of a run that is divided


def report(out: str, shard: Shard | None = None) -> Report:
    """Read how the run in ``out`` is, or one shard of it. Raises ConfigError where there is none."""
    store = opened(out)
    run = json.loads(store.read(RUN_FILE))
    if shard:
        check_division(store, run, shard)
    kinds: Counter[str] = Counter()
    failures: list[tuple[str, str]] = []
    parts, said = [], []
    for each in (shard,) if shard else shards_of(store):
        ended: Counter[str] = Counter(dict.fromkeys(Status, 0))
        for result in current_results(store, each):
            ended[result.status.value] += 1
            if result.status is Status.FAILED:
                kinds[result.error_kind or "internal"] += 1
                if len(failures) < _FAILURES_TOLD:
                    failures.append((result.id, result.error or ""))
        lease = read_lease(store, each.name)
        progress = lease.progress if lease else None
        said += [progress] if progress else []
        driver = driver_of(lease) if lease else None
        total = progress["total"] if progress else None
        parts.append(ShardReport(shard=str(each), driver=driver, total=total, ended=dict(ended)))
    totals = [part.total for part in parts]
    return Report(
        output=out,
        model=run["model"],
        version=run["version"],
        driver=min((part.driver for part in parts if part.driver), key=_liveliness, default=None),
        total=None if None in totals else sum(total for total in totals if total is not None),
        ended={name: sum(part.ended[name] for part in parts) for name in parts[0].ended},
        failed_by_kind=dict(kinds),
        failures=tuple(failures),
        progress=_together(said),
        shards=tuple(parts) if len(parts) > 1 else (),
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


def shards_of(store: Store) -> tuple[Shard, ...]:
    """The shards of a run, also such as nobody has begun; the whole where it is not divided."""
    return Shard(1, num_shards(json.loads(store.read(RUN_FILE)))).all


def has_driver(store: Store, shard: Shard) -> bool:
    """Whether somebody may be writing to a shard."""
    lease = read_lease(store, shard.name)
    return lease is not None and not is_gone(lease)


def current_results(store: Store, shard: Shard | None = None) -> "list[ShotResult]":
    """Of each shot of a shard, or of all, its last result, as of one moment: a driver may be writing."""
    found: list[ShotResult] = []
    for each in (shard,) if shard else shards_of(store):
        results = list(read_results(store, each.name))
        found += current(partial(iter, results))
    return found


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


def _liveliness(driver: Driver) -> int:
    return ("running", "paused", "silent", "gone", "ended").index(driver.state)


def _together(said: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    if len(said) > 1:
        return asdict(Progress.of_shards([progress_of(each) for each in said]))
    return said[0] if said else None


def progress_of(values: Mapping[str, Any]) -> Progress:
    """What ``asdict`` made of a ``Progress``."""
    stages = {name: StageProgress(**stage) for name, stage in values["stages"].items()}
    return Progress(**{**values, "stages": stages})

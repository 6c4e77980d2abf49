"""One driver at a time on a shard of OUT.

The driver that writes renews ``ledger/<shard>/lease.json`` every few seconds. Another one is refused while
that file goes on changing; it takes over where the file says that its writer has ended, where the writer was
a process of this machine that is gone, or where nothing was renewed for a while. No clocks of two machines
are compared. Should a writer that was thought dead wake up, the ledger does not count what it writes (see
``ledger``), and at its next renewal it finds a later epoch and stops.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ltx_ray.errors import LeaseLostError, RunBusyError
from ltx_ray.shard import named
from ltx_ray.storage import Store

BEAT_S = 3.0  # seconds between two renewals
DEAD_AFTER_S = 20.0  # a writer that has not renewed for so long is dead
# Renewals that prove a living writer: one may come from a process that is just being killed.
_PROOFS = 2
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRecord:
    """What stands in the file."""

    owner: str  # of one command: a coordinator that replaces another one of it goes on at once
    epoch: int
    beat: int  # renewals
    host: str
    pid: int
    machine: str | None  # names the booted machine and its process table; None: unknown
    born: int | None  # the process's start in the machine's ticks, for pids are used again
    time: float  # seconds since 1970, UTC, by the writer's clock; for people
    ended: bool  # the writer has said good-bye
    progress: Mapping[str, Any] | None  # as of ``Progress``


def read_lease(store: Store, shard: str = "0000") -> LeaseRecord | None:
    """What the shard's last writer said last; None where nobody ever wrote."""
    try:
        return LeaseRecord(**json.loads(store.read(_name(shard))))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # of another version, or damaged: it proves nobody's life
        return None


def is_gone(record: LeaseRecord) -> bool:
    """Whether the writer is known to be no more, without waiting."""
    if record.ended:
        return True
    return _is_here(record) and _born(record.pid) != record.born


def _is_here(record: LeaseRecord) -> bool:
    """Whether the writer is, or was, a process that can be looked for."""
    return record.machine is not None and record.machine == _machine() and record.born is not None


def wait_for_lease(
    store: Store,
    owner: str,
    shard: str = "0000",
    *,
    stopped: Callable[[], bool] = lambda: False,
    dead_after: float = DEAD_AFTER_S,
) -> bool:
    """Return when nobody else writes to the shard: True; or when ``stopped`` says so: False.

    A writer of another machine is dead when it was silent for ``dead_after`` seconds, one of this machine
    when its process is gone. Raises RunBusyError where one lives.
    """
    first = record = read_lease(store, shard)
    place = named(shard, store.url)
    quiet_until, proofs = time.monotonic() + dead_after, 0
    while record is not None and record.owner != owner and not is_gone(record):
        if stopped():
            return False
        if first is None or (record.epoch, record.beat) != (first.epoch, first.beat):
            first, proofs, quiet_until = record, proofs + 1, time.monotonic() + dead_after
        if proofs >= _PROOFS:
            raise RunBusyError(
                f"{place} must have one driver, but another one writes to it: process {record.pid} on "
                f"{record.host}; wait for its end, or stop it"
            )
        if time.monotonic() >= quiet_until:
            if not _is_here(record):
                break
            raise RunBusyError(
                f"{place} must have one driver, but process {record.pid} of this machine, which writes "
                f"to it, lives, though it was silent for {dead_after:g} s; kill it, or let it go on"
            )
        time.sleep(_LOOK_S)
        record = read_lease(store, shard)
    return True


class Lease:
    """The writer's side, in its epoch."""

    def __init__(self, store: Store, owner: str, epoch: int, shard: str = "0000") -> None:
        self.shard = shard
        self._store = store
        self._lock = threading.Lock()
        self._record = LeaseRecord(
            owner=owner,
            epoch=epoch,
            beat=0,
            host=socket.gethostname(),
            pid=os.getpid(),
            machine=_machine(),
            born=_born(os.getpid()),
            time=time.time(),
            ended=False,
            progress=None,
        )

    def renew(self, progress: Mapping[str, Any] | None = None, *, ended: bool = False) -> None:
        """Say that the writer lives, or that this is its end. Raises LeaseLostError where another one has
        taken over, StorageError where nothing could be written."""
        with self._lock:
            if self._record.ended:  # a renewal that was late
                return
            self.check()
            values = asdict(self._record)
            values |= {"beat": self._record.beat + 1, "time": time.time()}
            values |= {"ended": ended, "progress": progress}
            self._store.write(_name(self.shard), (json.dumps(values) + "\n").encode())
            self._record = LeaseRecord(**values)

    def check(self) -> None:
        """Raise LeaseLostError where a later epoch has begun."""
        folders = self._store.folders(f"ledger/{self.shard}")
        epochs = [int(name) for name in folders if name.isdecimal()]
        if max(epochs, default=0) > self._record.epoch:
            raise LeaseLostError(
                f"another driver took {named(self.shard, self._store.url)} over while this one was out of "
                "reach; all that was committed before is safe"
            )


def _name(shard: str) -> str:
    return f"ledger/{shard}/lease.json"


def _machine() -> str | None:
    """This boot of this machine, and its table of processes; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _born(pid: int) -> int | None:
    """When the process started, in ticks since the machine's; None where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state == "Z" else int(rest[18])  # field 22 of proc(5)

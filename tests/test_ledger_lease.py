"""One driver writes to a shard: a living one is found out, a dead one is not waited for, a zombie stops."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ltx_ray.errors import LeaseLostError, RunBusyError, StorageError
from ltx_ray.ledger.lease import Lease, is_gone, read_lease, wait_for_lease
from ltx_ray.ledger.ledger import Ledger
from ltx_ray.storage import Store

FILE = "ledger/0000/lease.json"
# Renews until its stdin closes, or until it is killed.
_WRITER = """
import os, sys, threading, time
from ltx_ray.ledger.lease import Lease
from ltx_ray.storage import Store
lease = Lease(Store(sys.argv[1]), "other", 1)
lease.renew()
print("ready", flush=True)
def end():
    sys.stdin.read()
    lease.renew(ended=True)
    os._exit(0)
threading.Thread(target=end).start()
while True:
    time.sleep(0.05)
    lease.renew({"done": 3})
"""


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(request.getfixturevalue("s3_out") if request.param == "s3" else str(tmp_path))


@contextmanager
def writer(store: Store) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has the lease."""
    words = [sys.executable, "-c", _WRITER, store.url]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_shard_that_nobody_wrote_to_is_free(store: Store) -> None:
    assert read_lease(store) is None
    wait_for_lease(store, "me", dead_after=60)


def test_a_living_driver_is_found_out_and_named(store: Store) -> None:
    with writer(store) as process:
        with pytest.raises(RunBusyError, match=rf"must have one driver, .* process {process.pid} on "):
            wait_for_lease(store, "me", dead_after=60)
        record = read_lease(store)
        assert record is not None
        assert record.progress == {"done": 3}


def test_a_killed_process_of_this_machine_is_not_waited_for(store: Store) -> None:
    with writer(store) as process:
        process.kill()
        process.wait()
        began = time.monotonic()
        wait_for_lease(store, "me", dead_after=60)
        assert time.monotonic() - began < 30


def test_a_driver_that_has_said_good_bye_is_not_waited_for(store: Store) -> None:
    with writer(store) as process:
        process.communicate("")
        record = read_lease(store)
        assert record is not None
        assert record.ended
        wait_for_lease(store, "me", dead_after=60)


def test_a_silent_driver_of_another_machine_is_dead_after_a_while(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Lease(store, "other", 1).renew()
    record = read_lease(store)
    assert record is not None
    store.write(FILE, json.dumps(asdict(replace(record, machine="elsewhere"))).encode())
    began = time.monotonic()
    wait_for_lease(store, "me", dead_after=1.0)
    assert time.monotonic() - began >= 1.0


def test_a_silent_driver_of_this_machine_that_lives_is_not_replaced(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Lease(store, "other", 1).renew()  # by this process
    with pytest.raises(RunBusyError, match=rf"process {os.getpid()} of this machine, .* lives, though"):
        wait_for_lease(store, "me", dead_after=0.6)


def test_a_coordinator_replaces_another_one_of_its_command_at_once(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Lease(store, "me", 1).renew()  # by this process, which lives
    wait_for_lease(store, "me", dead_after=60)


def test_waiting_ends_when_it_is_called_off(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Lease(store, "other", 1).renew()
    assert not wait_for_lease(store, "me", dead_after=60, stopped=lambda: True)


def test_a_reused_process_number_is_not_the_writer(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    Lease(store, "other", 1).renew()
    record = read_lease(store)
    assert record is not None
    assert record.born is not None
    assert not is_gone(record)
    assert is_gone(replace(record, born=record.born - 1))
    assert not is_gone(replace(record, born=record.born - 1, machine="elsewhere"))
    assert not is_gone(replace(record, machine=None, born=None))


def test_a_zombie_is_told_that_it_was_replaced_and_writes_nothing_more(store: Store) -> None:
    ledger, _ = Ledger.open(store, inline=True)
    lease = Lease(store, "zombie", ledger.epoch)
    lease.renew()
    later, _ = Ledger.open(store, inline=True)
    Lease(store, "heir", later.epoch).renew()
    with pytest.raises(LeaseLostError, match=r"another driver took .* over"):
        lease.renew()
    assert issubclass(LeaseLostError, StorageError)
    record = read_lease(store)
    assert record is not None
    assert record.owner == "heir"


def test_a_renewal_that_is_late_does_not_undo_the_end(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    lease = Lease(store, "me", 1)
    lease.renew()
    lease.renew(ended=True)
    late = threading.Thread(target=lease.renew)
    late.start()
    late.join()
    record = read_lease(store)
    assert record is not None
    assert record.ended


def test_a_damaged_lease_proves_no_life(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    for text in ("", "{", "[]", '{"owner": "x"}'):
        store.write(FILE, text.encode())
        assert read_lease(store) is None

"""Getting a Ray: one of our own for the length of a command, or one that runs already."""

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import psutil
import ray

from cluster.capacity import Seen
from cluster.census import census
from ltx_ray.errors import ConfigError
from ltx_ray.packages import check_folder

NAMESPACE = "ltx_ray"
# A Unix socket's path may have 107 bytes, and Ray appends about 60 to its temporary folder.
_LONGEST_TEMP = 40
_TEMP_PREFIX = "ltx-ray-"  # then the driver's pid
_CONNECT_SECONDS = 10.0


@contextmanager
def connected(address: str, local_cpus: float) -> Iterator[Seen]:
    """Connect for the length of the context, and tell what nodes there are.

    ``address`` is ``local`` (a Ray of our own, with at least ``local_cpus`` logical CPUs), ``auto`` (the one
    that RAY_ADDRESS names, or that runs on this machine), or an address such as ``head:6379``.
    Raises ConfigError where no Ray answers, UserError where workers would import packages that are not ours.
    """
    check_folder(Path.cwd())
    # What a node has to complain of Ray prints on the driver's stdout, in the middle of a JSON document.
    found = _own_ray(local_cpus) if address == "local" else _other_ray(address)
    with redirect_stdout(sys.stderr), found as seen:
        yield seen


@contextmanager
def _other_ray(address: str) -> Iterator[Seen]:
    _check_port(address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--address {address}: no Ray answers there ({error}); start one with `ray start --head`, set "
            "RAY_AUTH_TOKEN_PATH to the cluster's token if it wants one, or leave --address away to render "
            "on this machine alone"
        ) from error
    try:
        yield census()
    finally:
        ray.shutdown()


@contextmanager
def _own_ray(cpus: float) -> Iterator[Seen]:
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > _LONGEST_TEMP:
        parent = Path("/tmp")
    _sweep(parent)
    temporary = tempfile.mkdtemp(prefix=f"{_TEMP_PREFIX}{os.getpid()}-", dir=parent)
    # Ray's own reports of usage and of dashboards are of no use to a run that lives as long as a command.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(
            address="local",
            namespace=NAMESPACE,
            num_cpus=max(int(-(-cpus // 1)), os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=temporary,
        )
        yield census()
    finally:
        ray.shutdown()
        shutil.rmtree(temporary, ignore_errors=True)


def _check_port(address: str) -> None:
    """Ray waits for minutes where nobody listens; a closed port can be told at once."""
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = named.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"--address {address}: nobody listens at {named} ({error}); start a Ray there, correct the "
            "address, or give --address local to render on this machine alone"
        ) from error


def _sweep(parent: Path) -> None:
    """Remove the Ray folders of drivers that were killed and could not do it themselves."""
    for folder in parent.glob(f"{_TEMP_PREFIX}*"):
        pid = folder.name.removeprefix(_TEMP_PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)) and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)

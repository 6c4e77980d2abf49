"""Jobs of a cluster, through its job server: HTTP to the head, with the cluster's token where it wants one.

What a job server says of a job is what it knows of a process; how a run is stands in OUT.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from cluster.facts import Job, is_loopback
from cluster.shipment import MOST_BYTES, archive, archive_name, shipped
from ltx_ray.errors import ConfigError, RunBusyError
from ltx_ray.redact import redacted

# Ray prefers these to the address that it is given.
_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
# Seconds to connect, and until something is answered; Ray itself would wait for ever.
_TIMEOUT = (10.0, 120.0)
_BEGINS = ("http://", "https://")
# Why a job came to nothing before its command ran, as Ray names it.
_NEVER_BEGAN = re.compile(r"RUNTIME_ENV_SETUP|_START_|_UNSCHEDULABLE|COMMAND_START")


class JobServerLostError(ConfigError):
    """The job server gives no answer, or only errors: wrong, or not there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A job that is to be."""

    id: str
    command: str  # for a shell
    metadata: Mapping[str, str]
    variables: Mapping[str, str]  # of the environment of all its processes
    brings_packages: bool  # False: ltx_ray is installed on every node


def checked_address(address: str | None) -> str:
    """The job server's URL. None: the one that Ray's own commands would take. Raises ConfigError."""
    named = address or os.environ.get(_ADDRESSES[0]) or os.environ.get(_ADDRESSES[1]) or ""
    parts = urlsplit(named)
    try:
        is_url = named.startswith(_BEGINS) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ConfigError(
            "--address must be the URL of the cluster's job server, which is its dashboard, as "
            f"http://HEAD:8265, got {redacted(named) or 'none'}: give it, or set {_ADDRESSES[0]}"
        )
    if parts.username is not None or parts.query:
        raise ConfigError(
            f"--address must carry no secrets, got {redacted(named)}: set RAY_AUTH_TOKEN_PATH to a file with "
            "the cluster's token"
        )
    return named.rstrip("/")


def is_here(address: str) -> bool:
    """Whether a job server's URL is of this machine alone; a tunnel to another one looks the same."""
    return is_loopback(urlsplit(address).hostname or "")


class JobServer:
    """The job server at a URL. Every method raises ConfigError where it refuses us, JobServerLostError where
    it does not answer."""

    def __init__(self, address: str) -> None:
        self.address = address
        with _told(address), _without(_ADDRESSES):
            self._client = _Client(address)

    def jobs(self, prefix: str) -> list[Job]:
        """Jobs whose ids begin with ``prefix``, the oldest first."""
        with _told(self.address):
            found: list[JobDetails] = self._client.list_jobs()
        ours = [_job(each) for each in found if (each.submission_id or "").startswith(prefix)]
        return sorted(ours, key=lambda job: (job.submitted, job.id))

    def job(self, job_id: str) -> Job:
        """The job of that id."""
        with _told(self.address):
            return _job(self._client.get_job_info(job_id))

    def submit(self, order: Order) -> None:
        """Begin a job, once what it brings along is there. Raises RunBusyError where its id is taken."""
        working_dir = self._sent([])  # an empty one: no folder of a node comes first on the job's path
        environment: dict[str, Any] = {"working_dir": working_dir}
        if order.brings_packages:
            environment["py_modules"] = [self._sent(shipped())]
        if order.variables:
            environment["env_vars"] = dict(order.variables)
        with _told(self.address):
            try:
                # No entrypoint_num_gpus: the driver only watches, and would keep a GPU from the actors.
                self._client.submit_job(
                    entrypoint=order.command,
                    submission_id=order.id,
                    runtime_env=environment,
                    metadata=dict(order.metadata),
                )
            except RuntimeError as error:
                if "already exists" not in str(error):
                    raise
                raise RunBusyError(
                    f"job {order.id} was submitted by somebody else a moment ago: look at it with `ltx-ray "
                    "status`"
                ) from error

    def _sent(self, names: list[str]) -> str:
        """The URI of an archive of our files, which the cluster has."""
        name = archive_name(names)
        place = f"/api/packages/gcs/{name}"
        with _told(self.address):
            if self._client.ask("GET", place).status_code != 200:
                data = archive(names)
                if len(data) > MOST_BYTES:
                    raise ConfigError(
                        f"the packages must have at most {MOST_BYTES:,} bytes for Ray to ship them, got "
                        f"{len(data):,}: install ltx-ray on every node and give --installed"
                    )
                answer = self._client.ask("PUT", place, data)
                if answer.status_code != 200:
                    raise RuntimeError(f"it did not take a package: {answer.status_code} {answer.text}")
        return f"gcs://{name}"


class _Client(JobSubmissionClient):
    """Ray's, which gives up on a server that says nothing."""

    def ask(self, method: str, place: str, data: bytes | None = None) -> requests.Response:
        """A request with the token. Raises AuthenticationError where that does not do."""
        return self._do_request(method, place, data=data)

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        return super()._do_request(method, endpoint, timeout=_TIMEOUT, **options)


def _job(details: JobDetails) -> Job:
    return Job(
        id=str(details.submission_id),
        state=str(details.status),
        message=details.message or "",
        began=not _NEVER_BEGAN.search(details.error_type or ""),
        exit_code=details.driver_exit_code,
        submitted=(details.start_time or 0) / 1000,
        metadata=details.metadata or {},
    )


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Errors of Ray's client in words for a person."""
    try:
        yield
    except AuthenticationError as error:
        raise ConfigError(_token_advice(address, "failed" in str(error).partition(":")[0])) from error
    except (requests.exceptions.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--address {address}: something answers there, but it is no Ray job server ({error!r}); check "
            "host and port (Ray's dashboard has 8265 by default)"
        ) from error
    except RuntimeError as error:
        text = f"--address {address}: the job server answers with an error: {error}"
        raise JobServerLostError(text) from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise JobServerLostError(
            f"--address {address}: no Ray job server answers there ({error}); check the address, the way to "
            "it, and that the head has a dashboard (`ray start --head --dashboard-host ...`)"
        ) from error


def _token_advice(address: str, has_token: bool) -> str:
    if has_token:
        return (
            f"--address {address}: the job server refuses the token that it was given (403): give the "
            "cluster's own, by RAY_AUTH_TOKEN_PATH (a file) or RAY_AUTH_TOKEN, and look that none of them "
            "is set wrongly"
        )
    mode = os.environ.get("RAY_AUTH_MODE")
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if mode == "token" and path:
        return (
            f"--address {address}: a token is wanted, but {path}, which RAY_AUTH_TOKEN_PATH names, has none: "
            "name a file that has the cluster's token"
        )
    missing = "RAY_AUTH_TOKEN_PATH to a file that has the cluster's token (or RAY_AUTH_TOKEN to the token)"
    if mode != "token":
        missing = f"RAY_AUTH_MODE=token (it is {mode or 'not set'}) and {missing}"
    return f"--address {address}: the job server wants a token (401): set {missing}"


@contextmanager
def _without(names: Sequence[str]) -> Iterator[None]:
    """Hide environment variables for the length of the context."""
    hidden = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)

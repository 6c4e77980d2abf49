"""``ltx-ray submit``: what a manifest needs is copied beside OUT, and a job of the cluster renders it.

A run has one job at a time. Its id is made of OUT and the number of the attempt, so that whoever knows OUT
finds it.
"""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.facts import Job
from cluster.submission import JobServer, Order, is_here
from jobs.job_watch import jobs_of, prefix_of
from jobs.status import is_begun
from jobs.upload_manifest import upload_manifest
from jobs.uploads import INPUTS, Uploads
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, RunBusyError, UserError
from ltx_ray.ledger.lease import LeaseRecord, is_gone, read_lease, wait_for_lease
from ltx_ray.manifest.read import read_rows
from ltx_ray.redact import redacted
from ltx_ray.run import RUN_FILE, check_division
from ltx_ray.shard import WHOLE, Shard, named
from ltx_ray.storage import Store
from ltx_ray.version import __version__

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RENDER = ("python", "-P", "-m", "jobs.cli", "render")
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """What the command line asked for."""

    manifest: str
    out: str
    config: RenderConfig
    address: str  # URL of the job server
    limit: int | None = None
    shard: Shard = WHOLE  # what the job renders of the manifest
    installed: bool = False  # ltx_ray is on every node; it is not brought along
    shared: bool = False  # a local OUT is the same folder on every node
    upload: bool = True  # the manifest and what it names; False: every node sees them as they are named
    variables: tuple[str, ...] = ()  # names of environment variables that the job is to have


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A job that was begun."""

    id: str
    output: str
    address: str
    manifest: str  # that the job reads
    epoch: int  # the last of OUT before it
    shard: str  # "3/8"; "1/1": the whole of the manifest


def submit(request: SubmitRequest, tell: Tell) -> Submitted:
    """Begin a job that renders ``request``.

    Raises RunBusyError where OUT has a driver or a job that lives, UserError where the cluster could not see
    what is asked for, JobServerLostError, StorageError.
    """
    _check(request)
    variables = _variables(request.variables)
    server = JobServer(request.address)
    earlier = jobs_of(request.out, server, request.shard)
    _check_free(request, earlier)
    store = Store(request.out)
    if is_begun(request.out):
        check_division(store, json.loads(store.read(RUN_FILE)), request.shard)
    lease = _last_lease(store, request.shard, tell)
    manifest, config = _placed(request, store, tell)
    order = Order(
        id=f"{prefix_of(request.out, request.shard)}{_attempt(earlier)}",
        command=shlex.join(_command(request, manifest, config)),
        metadata={"output": request.out, "manifest": redacted(request.manifest), "version": __version__},
        variables=variables,
        brings_packages=not request.installed,
    )
    server.submit(order)
    return Submitted(
        id=order.id,
        output=request.out,
        address=request.address,
        manifest=manifest,
        epoch=lease.epoch if lease else 0,
        shard=str(request.shard),
    )


def _last_lease(store: Store, shard: Shard, tell: Tell) -> LeaseRecord | None:
    """That of the last driver of the shard, once it is known that it does not live. Raises RunBusyError."""
    lease = read_lease(store, shard.name)
    if lease is not None and not is_gone(lease):
        where = named(shard.name, store.url)
        tell(f"a driver wrote to {where} last on {lease.host}: looking for a while whether it lives")
        wait_for_lease(store, "", shard.name)
    return read_lease(store, shard.name)


def _check(request: SubmitRequest) -> None:
    """Raise UserError where the job could not see what it is to, or would show secrets."""
    if "://" not in request.out and not request.shared and not is_here(request.address):
        raise ConfigError(
            "--output must be a folder that every node sees, or a URL such as s3://bucket/out, got the "
            f"folder {request.out} of this machine, and the cluster is another one "
            f"({redacted(request.address)}): give a URL, or --shared where all nodes and this machine have "
            "that folder under the same name"
        )
    is_copied = request.upload and "://" not in request.manifest
    for name, value in (("--output", request.out), ("MANIFEST", "" if is_copied else request.manifest)):
        if redacted(value) != value:
            raise ConfigError(
                f"{name} must be a URL without secrets, got {redacted(value)}: who may look at jobs would "
                "see them. Give the nodes credentials of their own, or --env NAME; fetch a signed link to a "
                "file first"
            )


def _check_free(request: SubmitRequest, earlier: Sequence[Job]) -> None:
    for job in earlier:
        if not job.is_over:
            raise RunBusyError(
                f"{named(request.shard.name, request.out)} must have one job at a time, but {job.id} is "
                f"{job.state}: look at it with `{how_to_look(request.out, request.address, request.shard)} "
                f"--follow`, or end it first with "
                f"{how_to_stop(request.out, job.id, request.address, request.shard)}"
            )


def how_to_look(out: str, address: str, shard: Shard) -> str:
    """The command that does."""
    part = "" if shard == WHOLE else f" --shard {shard}"
    return f"ltx-ray status {shlex.quote(out)} --address {address}{part}"


def how_to_stop(out: str, job_id: str, address: str, shard: Shard) -> str:
    """The commands that do, for a sentence."""
    shots = "its shots" if shard == WHOLE else "those of all shards"
    return (
        f"`ltx-ray cancel {shlex.quote(out)}` ({shots} end as cancelled) or `ray job stop {job_id} "
        f"--address {address}` (the same submit goes on later)"
    )


def _variables(names: Sequence[str]) -> dict[str, str]:
    """What the job is to have of this environment. Raises UserError."""
    found = {}
    for name in names:
        if not _VARIABLE.fullmatch(name):
            got = f"{name.partition('=')[0]}=..." if "=" in name else repr(name)
            raise UserError(
                f"--env wants the name of a variable alone, got {got}: its value is taken from this "
                "environment, so that it stands in no command line"
            )
        if name.startswith("RAY_AUTH_"):
            raise UserError(f"--env {name}: the cluster's nodes have its token themselves, leave it out")
        if name not in os.environ:
            raise UserError(f"--env {name}: there is no such variable here; export it, or leave it out")
        found[name] = os.environ[name]
    return found


def _placed(request: SubmitRequest, store: Store, tell: Tell) -> tuple[str, str | None]:
    """Where the job finds its manifest and its configuration, once they are there."""
    manifest = request.manifest
    is_copied = request.upload and "://" not in manifest
    if is_copied:
        next(iter(read_rows(manifest)))  # one that cannot be read is told before anything is written
        uploads = Uploads(store, tell)
        found = upload_manifest(manifest, request.config, uploads)
        for problem in found.missing:
            tell(f"not uploaded, and its shot will fail: {problem}")
        if (more := found.num_missing - len(found.missing)) > 0:
            tell(f"{more:,} more files could not be uploaded")
        tell(
            f"uploaded to {request.out.rstrip('/')}/{INPUTS}: {uploads.new_files} of {uploads.files} files "
            f"({uploads.new_bytes:,} of {uploads.bytes:,} bytes), the others are there"
        )
        manifest = f"{request.out.rstrip('/')}/{found.name}"
    text = _config_of_job(request.config, is_copied=is_copied).as_toml().encode()
    if not text:
        return manifest, None
    name = f"{INPUTS}/{hashlib.sha256(text).hexdigest()}.toml"
    store.create(name, text)
    return manifest, f"{request.out.rstrip('/')}/{name}"


def _config_of_job(config: RenderConfig, *, is_copied: bool) -> RenderConfig:
    """``config`` as it is to count on other machines.

    Paths of models are whole. Where what rows name was copied, folders of this machine are no roots there:
    what lies in them on a node is another thing.
    """
    if is_copied:
        roots = tuple(root for root in config.inputs.roots if "://" in root)
        if roots != config.inputs.roots:
            inputs = config.inputs.model_copy(update={"roots": roots})
            config = config.model_copy(update={"inputs": inputs})
    model = config.model
    changes: dict[str, object] = {}
    if (name := _whole(model.name)) != model.name:
        changes["name"] = name
    if model.audio_adapter and (adapter := _whole(model.audio_adapter)) != model.audio_adapter:
        changes["audio_adapter"] = adapter
    loras = tuple(lora.model_copy(update={"path": _whole(lora.path)}) for lora in model.lora)
    if loras != model.lora:
        changes["lora"] = loras
    return config.model_copy(update={"model": model.model_copy(update=changes)}) if changes else config


def _whole(name: str) -> str:
    """``name`` of a model or file, which may be a path from here, as one from everywhere."""
    path = Path(name).expanduser()
    return str(path.absolute()) if "://" not in name and name != "tiny" and path.exists() else name


def _command(request: SubmitRequest, manifest: str, config: str | None) -> list[str]:
    words = [*_RENDER, manifest, "--output", request.out, "--address", "auto"]
    words += ["--config", config] if config else []
    words += [] if request.shard == WHOLE else ["--shard", str(request.shard)]
    return words + (["--limit", str(request.limit)] if request.limit else [])


def _attempt(earlier: Sequence[Job]) -> int:
    numbers = [job.id.rpartition("-")[2] for job in earlier]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=0)

"""The checks of ``ltx-ray doctor`` of this machine, OUT and the model: facts to findings, without effects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from packaging.requirements import Requirement

from cluster.facts import Disk, Machine
from ltx_ray.models.presence import ModelFacts
from ltx_ray.redact import redacted
from ltx_ray.storage_probe import StoreFacts

GIB = 2**30
_LEAST_FREE = GIB  # of a disk, bytes: with less a shot's work does not fit
_LITTLE_FREE = 10 * GIB
_FULLEST = 0.95  # used share of a disk from which on Ray puts no more objects there


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: what was found, and where that is not ok, what to do."""

    check: str
    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that a check does not like."""

    state: State
    found: str
    advice: str


def judged(check: str, well: str, troubles: Sequence[Trouble]) -> Finding:
    """The finding of a check: ``well`` where there are no troubles, else the worst of them decides."""
    if not troubles:
        return Finding(check=check, state=State.OK, found=well)
    is_failed = any(trouble.state is State.FAILED for trouble in troubles)
    return Finding(
        check=check,
        state=State.FAILED if is_failed else State.WARNING,
        found="; ".join(trouble.found for trouble in troubles),
        advice="; ".join(dict.fromkeys(trouble.advice for trouble in troubles)),
    )


def check_versions(here: Machine, requirements: Iterable[str]) -> Finding:
    """Python and the packages of this machine are such as ltx-ray asks for."""
    advice = "install ltx-ray here again: that brings the versions that it needs"
    wanted = {need.name: need for need in map(Requirement, requirements) if need.marker is None}
    troubles = []
    for name, version in here.versions.items():
        if version is None:
            troubles.append(Trouble(State.FAILED, f"{name} is not installed", advice))
        elif name in wanted and not wanted[name].specifier.contains(version, prereleases=True):
            found = f"{name} must be {wanted[name].specifier}, got {version}"
            troubles.append(Trouble(State.FAILED, found, advice))
    well = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    return judged("versions here", well, troubles)


def check_output(output: StoreFacts) -> Finding:
    """OUT can be written, keeps what was created first, and shows it."""
    where = redacted(output.url)
    troubles = []
    if output.problem is not None:
        troubles.append(
            Trouble(State.FAILED, redacted(output.problem), "mend that, or give another --output")
        )
    if output.refuses_second is False:
        troubles.append(
            Trouble(
                State.FAILED,
                f"{where} takes a second file of the same name, so two drivers would spoil each other's runs",
                "choose an --output that refuses it: a local or shared disk, or an object store with "
                "conditional writes and a driver that uses them (s3fs on S3, gcsfs on Google Cloud Storage)",
            )
        )
    if output.reads_back is False:
        found = f"what was written to {where} is not what is read there"
        troubles.append(Trouble(State.FAILED, found, "choose another --output: this one loses data"))
    if output.lists is False:
        found = f"a file that was just written to {where} is not listed there"
        advice = "choose an --output that lists what it has at once, or turn off the cache in front of it"
        troubles.append(Trouble(State.FAILED, found, advice))
    if output.left_behind is not None:
        advice = "delete it by hand, and allow deleting: a run deletes its work when a shot is done"
        troubles.append(Trouble(State.WARNING, output.left_behind, advice))
    return judged("output", f"{where}: written, a second one refused, read, listed, deleted", troubles)


def check_output_disk(free: int) -> Finding:
    """The disk of a local OUT has room."""
    return judged("output disk", f"{size(free)} free", _room("--output", free, "free some, or give another"))


def disk_troubles(name: str, disk: Disk) -> list[Trouble]:
    """What is wrong with the temporary folder of the machine ``name``."""
    where = f"{disk.path} of {name}"
    troubles = _room(where, disk.free, "free some, or start Ray there with --temp-dir on a larger disk")
    if not troubles and disk.free < (1 - _FULLEST) * disk.total:
        found = f"{where} is {1 - disk.free / disk.total:.0%} full, and Ray puts no objects on such a disk"
        troubles.append(Trouble(State.WARNING, found, "free some"))
    return troubles


def _room(where: str, free: int, advice: str) -> list[Trouble]:
    if free >= _LITTLE_FREE:
        return []
    state = State.FAILED if free < _LEAST_FREE else State.WARNING
    return [Trouble(state, f"{where} has {size(free)} left, wanted {size(_LITTLE_FREE)}", advice)]


def check_model(model: ModelFacts) -> Finding:
    """The checkpoint has all its parts, as safetensors that fit each other."""
    troubles = []
    if model.problem is not None:
        troubles.append(Trouble(State.FAILED, model.problem, "mend that, or set model.name to another one"))
    elif model.is_absent:
        found = (
            f"{model.name} is whole on the hub, but not here: the first run fetches {size(model.size or 0)}"
        )
        name, _, revision = model.name.partition("@")
        options = (
            f"{f' --revision {revision}' if revision else ''} --include model_index.json --include '*/*'"
        )
        troubles.append(Trouble(State.WARNING, found, f"to fetch it now: hf download {name}{options}"))
    return judged("model", f"{model.name}: every part, as safetensors, {size(model.size or 0)}", troubles)


def check_added(model: ModelFacts) -> Finding:
    """Audio adapter and LoRAs are there and are made for the checkpoint."""
    advice = "correct model.audio_adapter or model.lora, or put the right file there"
    troubles = [Trouble(State.FAILED, problem, advice) for problem in model.added_problems]
    return judged("adapters", ", ".join(model.added) or "none: sound drives nothing", troubles)


def size(count: int) -> str:
    """Bytes, for a person."""
    return f"{count / GIB:,.1f} GiB" if count >= GIB else f"{count / 2**20:,.0f} MiB"

"""What the ledger says, a JSON object a line.

``epoch``     a driver began to write: which files of earlier epochs it saw; what came later does not exist
``artefact``  a task's durable result: from now on this file is the task's result, and the task is done
``result``    a shot has ended: a row of the output manifest
``retry``     a shot that has ended is wanted anew: its next result is of a higher generation
``cancel``    shots are called off, also such as no driver has met yet
"""

import json
from dataclasses import dataclass
from typing import Any

from ltx_ray.manifest.schema import result_from_json, result_to_json
from ltx_ray.types import Artefact, Receipt, ShotResult, TaskKey


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """The first record of an epoch."""

    epoch: int
    after: dict[int, int]  # epoch -> number of its files that count
    host: str
    pid: int
    time: float  # seconds since 1970, UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactRecord:
    """A task's durable result, and what the task cost."""

    shot_id: str
    generation: int
    key: TaskKey
    fingerprint: str  # of the shot that the result belongs to
    artefact: Artefact
    attempt: int
    seconds: float
    node: str
    device: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, receipt: Receipt, fingerprint: str, generation: int) -> "ArtefactRecord":
        """The record that commits ``receipt``."""
        assert receipt.artefact is not None, f"{receipt.key} made nothing durable"
        return cls(
            shot_id=receipt.shot_id,
            generation=generation,
            key=receipt.key,
            fingerprint=fingerprint,
            artefact=receipt.artefact,
            attempt=receipt.attempt,
            seconds=receipt.seconds,
            node=receipt.node,
            device=receipt.device,
            facts=dict(receipt.facts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRecord:
    """Somebody asked for an ended shot to be rendered again."""

    shot_id: str
    fingerprint: str
    generation: int  # of the result that is not good enough
    resumes: bool  # whether what it has of chunks is to be used again


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRecord:
    """Somebody called shots off: each ends as cancelled as soon as a driver meets it."""

    shots: tuple[str, ...]


_RESULT = '{"type":"result",'  # how ``encode`` begins one
Record = EpochRecord | ArtefactRecord | ShotResult | RetryRecord | CancelRecord


def encode(record: Record) -> str:
    """One line of JSON, without the newline."""
    data: dict[str, Any]
    match record:
        case EpochRecord():
            data = {
                "type": "epoch",
                "epoch": record.epoch,
                "after": {str(epoch): count for epoch, count in record.after.items()},
                "host": record.host,
                "pid": record.pid,
                "time": record.time,
            }
        case ArtefactRecord():
            data = {
                "type": "artefact",
                "shot": record.shot_id,
                "generation": record.generation,
                "task": str(record.key),
                "fingerprint": record.fingerprint,
                "name": record.artefact.name,
                "sha256": record.artefact.sha256,
                "bytes": record.artefact.bytes,
                "attempt": record.attempt,
                "seconds": round(record.seconds, 6),
                "node": record.node,
                "device": record.device,
                "facts": record.facts,
            }
        case ShotResult():
            data = {"type": "result", **result_to_json(record)}
        case RetryRecord():
            data = {
                "type": "retry",
                "shot": record.shot_id,
                "fingerprint": record.fingerprint,
                "generation": record.generation,
                "resumes": record.resumes,
            }
        case CancelRecord():
            data = {"type": "cancel", "shots": record.shots}
    # In ASCII: prompts hold characters at which a line may be split, and paths some that are not UTF-8.
    return json.dumps(data, separators=(",", ":"))


def is_result(line: str) -> bool:
    """Whether ``line`` is a result: told without reading it all, for few lines of a ledger are."""
    return line.startswith(_RESULT)


def decode(line: str) -> Record:
    """The record that ``encode`` wrote."""
    data = json.loads(line)
    match data.pop("type"):
        case "epoch":
            after = {int(epoch): count for epoch, count in data["after"].items()}
            return EpochRecord(
                epoch=data["epoch"], after=after, host=data["host"], pid=data["pid"], time=data["time"]
            )
        case "artefact":
            return ArtefactRecord(
                shot_id=data["shot"],
                generation=data["generation"],
                key=TaskKey.parse(data["task"]),
                fingerprint=data["fingerprint"],
                artefact=Artefact(name=data["name"], sha256=data["sha256"], bytes=data["bytes"]),
                attempt=data["attempt"],
                seconds=data["seconds"],
                node=data["node"],
                device=data["device"],
                facts=data["facts"],
            )
        case "result":
            return result_from_json(data)
        case "retry":
            return RetryRecord(
                shot_id=data["shot"],
                fingerprint=data["fingerprint"],
                generation=data["generation"],
                resumes=data["resumes"],
            )
        case "cancel":
            return CancelRecord(shots=tuple(data["shots"]))
        case other:
            raise ValueError(f"the ledger knows no such record, got {other!r}")

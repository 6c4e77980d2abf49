"""What earlier epochs left: how shots ended, in a few bytes each, and the artefacts of shots that did not."""

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ltx_ray.ledger.records import ArtefactRecord, CancelRecord, EpochRecord, Record, RetryRecord
from ltx_ray.types import ShotResult, Stage, Status, TaskKey

_STATUSES = (*Status, None)


@dataclass(frozen=True, slots=True)
class Known:
    """How a shot ended last."""

    status: Status | None  # None: it is wanted anew
    generation: int
    same: bool  # whether it was rendered from the same content as is asked for now


class History:
    """Fed record by record in the order of the ledger; about 19 bytes for each shot that has ended."""

    def __init__(self) -> None:
        self.artefacts: dict[str, dict[TaskKey, ArtefactRecord]] = {}
        self.last_epoch = 0
        self.revived: set[str] = set()  # failed shots that are wanted anew, with the chunks that they have
        self.cancelled: set[str] = set()  # called off, but not ended yet
        self._ids = array("Q")
        self._fingerprints = array("Q")
        self._generations = array("H")
        self._statuses = array("B")
        self._sorted: np.ndarray | None = None
        self._order: np.ndarray | None = None

    def add(self, record: Record) -> None:
        """Take the next record in."""
        match record:
            case EpochRecord():
                self.last_epoch = max(self.last_epoch, record.epoch)
            case ArtefactRecord():
                self.artefacts.setdefault(record.shot_id, {})[record.key] = record
            case ShotResult():
                self.artefacts.pop(record.id, None)
                self.revived.discard(record.id)
                self.cancelled.discard(record.id)
                self._append(record.id, record.fingerprint, record.generation, record.status)
            case RetryRecord():
                if record.resumes:
                    self.revived.add(record.shot_id)
                self._append(record.shot_id, record.fingerprint, record.generation, None)
            case CancelRecord():
                self.cancelled.update(record.shots)

    def _append(self, shot_id: str, fingerprint: str, generation: int, status: Status | None) -> None:
        self._ids.append(hash64(shot_id))
        self._fingerprints.append(hash64(fingerprint))
        self._generations.append(min(generation, 65_535))
        self._statuses.append(_STATUSES.index(status))

    def revive(self, records: Iterable[Record]) -> None:
        """Take in, from the same records once more, the artefacts of ``revived`` shots: those of a shot that
        has ended are not kept, for most of them are never asked for."""
        found: dict[str, dict[TaskKey, ArtefactRecord]] = {shot_id: {} for shot_id in self.revived}
        for record in records:
            match record:
                case ArtefactRecord() if record.shot_id in found and record.key.stage is not Stage.FINISH:
                    found[record.shot_id][record.key] = record
                # Its work was deleted, or must not be used again.
                case ShotResult() if record.id in found and record.status is not Status.FAILED:
                    found[record.id].clear()
                case RetryRecord() if record.shot_id in found and not record.resumes:
                    found[record.shot_id].clear()
        self.artefacts |= {shot_id: records for shot_id, records in found.items() if records}

    def settled(self) -> "History":
        """Sort for lookups, once all records are in; of several results of a shot the last one counts."""
        ids = np.array(self._ids, dtype=np.uint64)
        order = np.argsort(ids, kind="stable")
        last = np.append(np.diff(ids[order]) != 0, True) if len(ids) else np.zeros(0, bool)
        self._order = order[last]
        self._sorted = ids[self._order]
        return self

    def __len__(self) -> int:
        assert self._sorted is not None
        return len(self._sorted)

    def files(self) -> set[str]:
        """Names of the files that records of unfinished shots name."""
        return {record.artefact.name for records in self.artefacts.values() for record in records.values()}

    def status(self, shot_id: str) -> Status | None:
        """How ``shot_id`` ended; None where it has not, or is wanted anew."""
        known = self.known(shot_id, "")
        return None if known is None else known.status

    def known(self, shot_id: str, fingerprint: str) -> Known | None:
        """How ``shot_id`` ended, or None where it never has."""
        assert self._sorted is not None, "look-ups come after settled()"
        assert self._order is not None
        wanted = np.uint64(hash64(shot_id))
        position = int(np.searchsorted(self._sorted, wanted))
        if position == len(self._sorted) or self._sorted[position] != wanted:
            return None
        entry = int(self._order[position])
        return Known(
            status=_STATUSES[self._statuses[entry]],
            generation=self._generations[entry],
            same=self._fingerprints[entry] == hash64(fingerprint),
        )

    @property
    def has_failures(self) -> bool:
        """Whether any shot has failed and is not wanted anew: its work is kept."""
        return self.counts()[Status.FAILED] > 0

    def counts(self) -> dict[Status, int]:
        """How many shots ended in each way."""
        assert self._order is not None
        statuses = np.array(self._statuses, dtype=np.uint8)[self._order]
        return {status: int((statuses == code).sum()) for code, status in enumerate(Status)}


def hash64(text: str) -> int:
    """64 bits that stand for ``text``: two of a million differ with a probability above 1 - 1e-7."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

"""What earlier epochs left: how shots ended, in a few bytes each, and the artefacts of shots that did not."""

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np

from ltx_ray.ledger.records import ArtefactRecord, EpochRecord, Record
from ltx_ray.types import ShotResult, Status, TaskKey

_STATUSES = tuple(Status)


@dataclass(frozen=True, slots=True)
class Known:
    """How a shot ended last."""

    status: Status
    generation: int
    same: bool  # whether it was rendered from the same content as is asked for now


class History:
    """Fed record by record in the order of the ledger; about 19 bytes for each shot that has ended."""

    def __init__(self) -> None:
        self.artefacts: dict[str, dict[TaskKey, ArtefactRecord]] = {}
        self.last_epoch = 0
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
                self._ids.append(hash64(record.id))
                self._fingerprints.append(hash64(record.fingerprint))
                self._generations.append(min(record.generation, 65_535))
                self._statuses.append(_STATUSES.index(record.status))

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

    def known(self, shot_id: str, fingerprint: str) -> Known | None:
        """How ``shot_id`` ended, or None where it has not."""
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

    def counts(self) -> dict[Status, int]:
        """How many shots ended in each way."""
        assert self._order is not None
        statuses = np.array(self._statuses, dtype=np.uint8)[self._order]
        return {status: int((statuses == code).sum()) for code, status in enumerate(_STATUSES)}


def hash64(text: str) -> int:
    """64 bits that stand for ``text``: two of a million differ with a probability above 1 - 1e-7."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

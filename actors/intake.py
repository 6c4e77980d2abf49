"""Manifest rows on their way in: which become active shots, and which end without any work."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from actors.rejection import rejection, row_error
from actors.shot_run import ShotRun
from ltx_ray.errors import UserError
from ltx_ray.ledger.history import History
from ltx_ray.manifest.row import RowError
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.shard import video_folder
from ltx_ray.types import Shot, ShotResult, Status

_SHOTS_PER_FOLDER = 1000  # of OUT/videos, so that no folder becomes too large to list


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that had ended before, and how."""

    status: Status
    cost: float  # of the work that need not be done


class Intake:
    """Walks the rows once, in the order in which they are to be rendered."""

    def __init__(
        self,
        spec: RunSpec,
        rows: Iterator[Shot | RowError],
        history: History,
        cost: Callable[[int], float],  # of a row, by its number
        *,
        epoch: int,
        shard: str,
    ) -> None:
        self.history = history
        self._spec, self._rows, self._cost = spec, rows, cost
        self._plan_settings = spec.plan_settings()
        self._epoch, self._shard = epoch, shard
        self._sequence = itertools.count(len(history))

    def next(self) -> ShotRun | ShotResult | Skipped | None:
        """What the next row becomes: a shot to work on, a result, nothing; None: there are no more rows."""
        row = next(self._rows, None)
        if row is None:
            return None
        return self._shot(row) if isinstance(row, Shot) else self._rejected(row)

    def _shot(self, shot: Shot) -> ShotRun | ShotResult | Skipped:
        known = self.history.known(shot.id, shot.fingerprint)
        if known and known.same and known.status in (Status.DONE, Status.FAILED, Status.CANCELLED):
            return Skipped(known.status, self._cost(shot.row))
        try:
            plan = plan_shot(shot, self._plan_settings)
        except UserError as error:
            return self._rejected(row_error(shot, str(error)))
        sequence = next(self._sequence)
        records = self.history.artefacts.pop(shot.id, {})
        return ShotRun(
            plan,
            {key: r for key, r in records.items() if r.fingerprint == shot.fingerprint},
            sequence=sequence,
            generation=known.generation + 1 if known else 1,
            epoch=self._epoch,
            folder=video_folder(self._shard, sequence // _SHOTS_PER_FOLDER),
            work=f"work/{self._shard}/{shot.id}",
            cost=self._cost(shot.row),
        )

    def _rejected(self, error: RowError) -> ShotResult | Skipped:
        result = rejection(error, self._spec)
        known = self.history.known(result.id, result.fingerprint)
        if known and known.same and known.status is not None:
            return Skipped(Status.REJECTED, 0.0)
        return replace(result, generation=known.generation + 1 if known else 1)

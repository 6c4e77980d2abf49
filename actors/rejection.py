"""Rows that are not rendered because they are wrong, as rows of the output manifest."""

import hashlib
import time

from ltx_ray.manifest.row import RowError
from ltx_ray.run import RunSpec
from ltx_ray.types import Shot, ShotResult, Status


def row_error(shot: Shot, message: str) -> RowError:
    """What is wrong with a row that only showed when it was planned, or when its files were opened."""
    return RowError(f"row {shot.row}: {message}", shot.row, (), shot.id, shot.input)


def rejection(error: RowError, run: RunSpec, generation: int = 1) -> ShotResult:
    """The result of a rejected row. Its fingerprint is the reason's: the same reason is not told twice."""
    now = time.time()
    return ShotResult(
        id=error.id,
        generation=generation,
        status=Status.REJECTED,
        row=error.row,
        fingerprint="rejected-" + hashlib.sha256(str(error).encode()).hexdigest()[:16],
        input=error.input,
        error_kind=error.kind,
        error=str(error),
        model=run.model,
        model_hash=run.model_hash,
        config_hash=run.hash,
        version=run.version,
        queued_at=now,
        finished_at=now,
    )

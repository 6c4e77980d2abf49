"""Wants ended shots anew: the ledger says so, and the run's own command goes on."""

from collections.abc import Callable

from jobs.status import current_results
from jobs.writing import sole_writer
from ltx_ray.ledger.records import RetryRecord
from ltx_ray.types import ShotResult, Status


def retry(out: str, wanted: Callable[[ShotResult], bool]) -> list[str]:
    """Want all shots that ended as ``wanted`` anew; their ids. What failed ones have of chunks is used again.

    Raises RunBusyError where a driver lives: its run passes each row once.
    """
    with sole_writer(out) as writing:
        chosen = [result for result in current_results(writing.store) if wanted(result)]
        writing.commit([retry_record(result, resumes=result.status is Status.FAILED) for result in chosen])
    return [result.id for result in chosen]


def retry_record(result: ShotResult, *, resumes: bool) -> RetryRecord:
    """That the shot of ``result`` is wanted anew; ``resumes``: with the chunks that it has."""
    return RetryRecord(
        shot_id=result.id, fingerprint=result.fingerprint, generation=result.generation, resumes=resumes
    )

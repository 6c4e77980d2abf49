"""Wants ended shots anew: the ledger says so, and the run's own command goes on."""

from collections.abc import Callable, Iterable

from jobs.status import current_results, opened, shards_of
from jobs.writing import sole_writers
from ltx_ray.ledger.records import RetryRecord
from ltx_ray.shard import Shard
from ltx_ray.types import ShotResult, Status


def retry(out: str, wanted: Callable[[ShotResult], bool]) -> list[str]:
    """Want all shots that ended as ``wanted`` anew; their ids. What failed ones have of chunks is used again.

    Raises RunBusyError where a driver of one of their shards lives: its run passes each row once.
    """
    ids = [result.id for result in current_results(opened(out)) if wanted(result)]
    found = []
    with sole_writers(out, concerned(out, ids)) as writers:
        for writing in writers:
            chosen = [result for result in current_results(writing.store, writing.shard) if wanted(result)]
            writing.commit(
                [retry_record(result, resumes=result.status is Status.FAILED) for result in chosen]
            )
            found += [result.id for result in chosen]
    return found


def concerned(out: str, ids: Iterable[str]) -> list[Shard]:
    """The shards of the run in ``out`` whose shots have these ids; the whole where it is not divided."""
    shards = shards_of(opened(out))
    wanted = {Shard.of(each, len(shards)) for each in ids}
    return [shard for shard in shards if shard in wanted or len(shards) == 1]


def retry_record(result: ShotResult, *, resumes: bool) -> RetryRecord:
    """That the shot of ``result`` is wanted anew; ``resumes``: with the chunks that it has."""
    return RetryRecord(
        shot_id=result.id, fingerprint=result.fingerprint, generation=result.generation, resumes=resumes
    )

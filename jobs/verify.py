"""Holds every row of a run against its file: what is missing, cut off, changed, or nobody's."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from jobs.retry import concerned, retry_record
from jobs.status import current_results, has_driver, opened, shards_of
from jobs.writing import sole_writers
from ltx_ray.errors import MediaError
from ltx_ray.ledger.history import History
from ltx_ray.ledger.ledger import read_records
from ltx_ray.ledger.sweep import strays
from ltx_ray.media.probe import probe_video, sha256_file
from ltx_ray.shard import WHOLE, Shard, owner_of
from ltx_ray.storage import Store
from ltx_ray.types import ShotResult, Status

_READERS = 8  # files that are read at a time
# Of a video's length: containers keep times in whole ticks.
_TOLERANCE_S = Fraction(1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    file: str  # relative to OUT
    id: str | None  # of the shot; None: of none
    problem: str  # "missing", "truncated", "changed", "frames", "duration", "size" or "extra"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """All of a run's videos, looked at."""

    videos: int
    findings: tuple[Finding, ...]


def verify(out: str) -> Verified:
    """Read every video of the run in ``out``. Raises ConfigError where there is no run."""
    store = opened(out)
    results = current_results(store)
    done = [result for result in results if result.status is Status.DONE]
    with ThreadPoolExecutor(_READERS) as pool:
        found = [finding for finding in pool.map(lambda result: _checked(store, result), done) if finding]
    idle = [shard for shard in shards_of(store) if not has_driver(store, shard)]  # a driver's are being made
    extra = [name for shard in idle for name in _extra(store, shard)]
    found += [Finding(file=name, id=None, problem="extra", text="no row names it") for name in extra]
    return Verified(videos=len(done), findings=tuple(found))


def repair(out: str, found: Verified) -> int:
    """Delete what is nobody's, and want anew, from the first chunk on, what is not right; how many shots.

    What is nobody's is looked for once more: a driver may have written since. Raises RunBusyError where one
    of a shard that it concerns lives.
    """
    if not found.findings:
        return 0
    bad = {finding.id for finding in found.findings if finding.id is not None}
    count = 0
    with sole_writers(out, _to_repair(out, found)) as writers:
        for writing in writers:
            results = [result for result in current_results(writing.store, writing.shard) if result.id in bad]
            writing.commit([retry_record(result, resumes=False) for result in results])
            for name in _extra(writing.store, writing.shard):
                writing.delete(name)
            count += len(results)
    return count


def _to_repair(out: str, found: Verified) -> list[Shard]:
    of_shots = concerned(out, [finding.id for finding in found.findings if finding.id is not None])
    owners = {owner_of(Path(finding.file).parent.name) for finding in found.findings if finding.id is None}
    shards = shards_of(opened(out))
    return [shard for shard in shards if shard in of_shots or shard.name in owners]


def _checked(store: Store, result: ShotResult) -> Finding | None:
    """What is wrong with the video of a shot that is done; the first thing, of several."""
    name = result.file_name or ""
    size = store.size(name)
    if size is None:
        return _finding(result, "missing", "there is no such file")
    if result.bytes is not None and size < result.bytes:
        return _finding(result, "truncated", f"should have {result.bytes:,} bytes, has {size:,}")
    with store.fetched(name) as path:
        return _content(result, path)


def _content(result: ShotResult, path: Path) -> Finding | None:
    if sha256_file(path) != result.sha256:
        return _finding(result, "changed", "is not the file that was committed: its SHA-256 is another")
    try:
        facts = probe_video(path)
    except MediaError as error:
        return _finding(result, "truncated", str(error))
    if facts.num_frames != result.num_frames:
        return _finding(result, "frames", f"should have {result.num_frames} frames, has {facts.num_frames}")
    if result.seconds is not None and abs(facts.seconds - result.seconds) > _TOLERANCE_S + 1 / facts.fps / 2:
        return _finding(
            result, "duration", f"should last {result.seconds:.3f} s, lasts {facts.seconds:.3f} s"
        )
    if (facts.width, facts.height) != (result.width, result.height):
        text = f"should be {result.width}x{result.height}, is {facts.width}x{facts.height}"
        return _finding(result, "size", text)
    return None


def _extra(store: Store, shard: Shard) -> list[str]:
    """Videos in a shard's folders that no shot has: of each the last that was done counts, and what is done
    of unfinished ones."""
    history, last = History(), dict[str, str]()
    for record in read_records(store, shard.name):
        history.add(record)
        if isinstance(record, ShotResult) and record.status is Status.DONE and record.file_name:
            last[record.id] = record.file_name
    known: dict[str, set[str]] = {}
    for name in (*history.files(), *last.values()):
        known.setdefault(Path(name).parent.name, set()).add(name)
    folders = [each for each in store.folders("videos") if shard == WHOLE or owner_of(each) == shard.name]
    return [name for folder in folders for name in strays(store, folder, known.get(folder, ()))]


def _finding(result: ShotResult, problem: str, text: str) -> Finding:
    return Finding(file=result.file_name or "", id=result.id, problem=problem, text=text)

"""The light first pass over a manifest, and the rows in the order in which they are to be rendered.

Kept per row: 8 bytes of its id's key, 4 of its cost, 2 of its priority. Everything else is read again
when its turn comes, so that a manifest of millions of rows needs no more memory than this. Rows of other
shards are counted, for ids are those of the whole manifest, and then passed by.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from ltx_ray.config import RenderConfig
from ltx_ray.errors import ManifestError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.identity import Assigned, IdBook, Identity, alone, identify
from ltx_ray.manifest.read import folder_of, read_rows
from ltx_ray.manifest.row import RowError
from ltx_ray.manifest.shot import parse_row
from ltx_ray.shard import WHOLE, Shard
from ltx_ray.types import Shot

BUFFER_ROWS = 1000  # rows held back in a pass, to save further passes over the manifest
_NOMINAL_STEPS = 40  # where neither row nor config says; only ratios of costs matter
_MAX_COST = 1e38  # what a 4-byte float holds
_FIRST = 1001  # the level above all priorities
LONG = 0.9  # of a fair share of the work: what costs more must not wait
_ELSEWHERE = -1001  # the level of other shards' rows, below all priorities


@dataclass(frozen=True, slots=True)
class ManifestIndex:
    """What the first pass found. Rows are numbered from 1; their entries begin at 0."""

    keys: "array[int]"  # per row: 64 bits that are equal where ids could be
    costs: "array[float]"  # per row: num_frames * width * height * steps, 0 for rejected and others' rows
    levels: "array[int]"  # per row: its priority, 0 for rejected rows, -1001 for rows of other shards
    total_cost: float
    priorities: tuple[int, ...]  # distinct, falling
    duplicates: frozenset[int]  # the keys that more than one row has

    @property
    def num_rows(self) -> int:
        """Rows of the manifest, broken ones and those of other shards too."""
        return len(self.keys)

    @property
    def num_own(self) -> int:
        """Rows that are to be rendered here, broken ones too."""
        return len(self.levels) - self.levels.count(_ELSEWHERE)

    def cost(self, row: int) -> float:
        """Rough work of a row (pixels x steps), by its number."""
        return self.costs[row - 1]


def index_manifest(url: str, config: RenderConfig, shard: Shard = WHOLE) -> ManifestIndex:
    """Read the manifest once, or twice where ``shard`` has to know which ids rows share. Raises
    ManifestError (see read_rows), never for a single bad row."""
    base = folder_of(url)
    keys, costs, levels = array("Q"), array("f"), array("h")
    for raw in read_rows(url):
        identity = identify(raw)
        keys.append(identity.key)
        cost, level = _weigh(raw, config, base, alone(identity), shard)
        costs.append(cost)
        levels.append(level)
    duplicates = _repeated(keys)
    if shard != WHOLE and duplicates:
        book = IdBook(duplicates)
        for row, raw in enumerate(read_rows(url)):
            if row < len(keys) and keys[row] in duplicates:
                assigned = book.assign(raw, identify(raw))
                costs[row], levels[row] = _weigh(raw, config, base, assigned, shard)
    priorities = tuple(sorted({*levels} - {_ELSEWHERE}, reverse=True))
    return ManifestIndex(keys, costs, levels, sum(costs), priorities, duplicates)


def long_rows(index: ManifestIndex, workers: int) -> set[int]:
    """Numbers of the rows that would be the last to end if they began when it is their turn.

    A row's chunks follow one another, so that it cannot end sooner than after its own cost, while
    ``workers`` share what is left of the others when it begins. Twice as many rows as workers are in work at
    a time, so that those which wait among them are counted as left.
    """
    costs = np.frombuffer(index.costs, dtype=np.float32).astype(np.float64)
    number = np.count_nonzero(costs)  # rows of other shards and rejected ones cost nothing here
    if workers < 2 or number <= 2 * workers:
        return set()  # all are in work at once, or it does not matter
    order = np.argsort(-np.frombuffer(index.levels, dtype=np.int16).astype(np.int64), kind="stable")
    left = np.empty(len(costs))
    left[order] = index.total_cost - np.cumsum(costs[order]) + costs[order]
    ahead = workers * index.total_cost / number
    long = costs > LONG * np.minimum(left + ahead, index.total_cost) / workers
    return set((np.flatnonzero(long) + 1).tolist())


def shots(
    url: str,
    config: RenderConfig,
    index: ManifestIndex,
    first: Collection[int] = (),
    buffer_rows: int = BUFFER_ROWS,
) -> Iterator[Shot | RowError]:
    """Every row of the index's shard exactly once: its shot, or why it is rejected.

    The rows numbered in ``first`` come first, then priority by priority, each in the manifest's order.
    Raises ManifestError if rows of the index have changed or vanished; rows added since are left out.
    """
    base = folder_of(url)
    ahead = frozenset(first)
    for levels in _passes(index, ahead, buffer_rows):
        for raw, assigned in _one_pass(url, index, ahead, levels):
            try:
                outcome: Shot | RowError = parse_row(raw, config, base, assigned)
            except RowError as error:
                outcome = error
            yield outcome


def _weigh(
    raw: RawRow, config: RenderConfig, base: str, assigned: Assigned, shard: Shard
) -> tuple[float, int]:
    if not shard.has(assigned.id):
        return 0.0, _ELSEWHERE
    try:
        shot = parse_row(raw, config, base, assigned)
    except RowError:
        return 0.0, 0
    sampling = config.sampling
    steps = shot.num_inference_steps or sampling.num_inference_steps or len(sampling.sigmas or ())
    cost = float(shot.num_frames) * shot.width * shot.height * (steps or _NOMINAL_STEPS)
    return min(cost, _MAX_COST), shot.priority


def _repeated(keys: "array[int]") -> frozenset[int]:
    ordered = np.sort(np.frombuffer(keys, dtype=np.uint64))
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


def _level(index: ManifestIndex, ahead: frozenset[int], row: int) -> int:
    return _FIRST if row in ahead else index.levels[row - 1]


def _passes(index: ManifestIndex, ahead: frozenset[int], buffer_rows: int) -> list[tuple[int, ...]]:
    """Levels, falling, by the pass that yields them: its first as read, its others held back."""
    counts = Counter(_level(index, ahead, row) for row in range(1, index.num_rows + 1))
    del counts[_ELSEWHERE]
    passes: list[tuple[int, ...]] = []
    held = 0
    for level in sorted(counts, reverse=True):
        if passes and held + counts[level] <= buffer_rows:
            passes[-1] = (*passes[-1], level)
            held += counts[level]
        else:
            passes.append((level,))
            held = 0
    return passes


def _one_pass(
    url: str, index: ManifestIndex, ahead: frozenset[int], levels: tuple[int, ...]
) -> Iterator[tuple[RawRow, Assigned]]:
    book = IdBook(index.duplicates)
    held: dict[int, list[tuple[RawRow, Assigned]]] = {level: [] for level in levels}
    for raw in _indexed_rows(url, index):
        level = _level(index, ahead, raw.number)
        # Rows of other passes and shards count where ids are shared: ids do not depend on who renders when.
        if level not in held and index.keys[raw.number - 1] not in index.duplicates:
            continue
        assigned = book.assign(raw, _same_identity(url, raw, index))
        if level == levels[0]:
            yield raw, assigned
        elif level in held:
            held[level].append((raw, assigned))
    for level in levels[1:]:
        yield from held[level]


def _indexed_rows(url: str, index: ManifestIndex) -> Iterator[RawRow]:
    number = 0
    for raw in read_rows(url):
        if raw.number > index.num_rows:
            break
        number = raw.number
        yield raw
    if number < index.num_rows:
        raise ManifestError(f"manifest {url}: had {index.num_rows} rows, now it has {number}; start again")


def _same_identity(url: str, raw: RawRow, index: ManifestIndex) -> Identity:
    identity = identify(raw)
    if identity.key != index.keys[raw.number - 1]:
        raise ManifestError(f"manifest {url}: row {raw.number} changed while it was read; start again")
    return identity

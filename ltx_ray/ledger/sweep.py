"""Removes what an interrupted run left behind: files that no record of the ledger names do not exist.

Only the driver that holds the lease may sweep, before its first task and after its last.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from ltx_ray.ledger.history import History
from ltx_ray.shard import WHOLE, part_prefix
from ltx_ray.storage import Store
from ltx_ray.types import Status

# As ``actors.shot_run`` names attempts; anything else in a folder of videos is not ours to delete.
_VIDEO = re.compile(r".+-\d+\.\d+\.mp4")
# Where drivers write, and nobody else: neither actors nor other commands, which may be at it now.
_OF_DRIVERS = re.compile(r"(ledger|logs|manifest|metrics)/|(videos/)?[^/]+$")
# A file that all shards write, and that was half-written for so long, is nobody's; they are small.
_ABANDONED_SECONDS = 3600.0


def sweep_work(store: Store, shard: str, history: History, *, keep_ended: bool) -> int:
    """Delete the files under work/<shard> that nobody can ask for again; how many they were.

    Kept is what records of unfinished shots name, and the work of failed shots, with which a retry goes on.
    ``keep_ended``: that of all ended shots is kept (``limits.keep_work``).
    """

    def is_kept(name: str) -> bool:
        shot_id = PurePosixPath(name).parent.name
        if shot_id in history.artefacts:
            return name in (record.artefact.name for record in history.artefacts[shot_id].values())
        status = history.status(shot_id)
        return status is Status.FAILED or (keep_ended and status is not None)

    folder = f"work/{shard}"
    found = [name for name in store.list(folder) if not is_kept(name)]
    return _deleted(store, [*found, *store.unfinished(folder)])


def sweep_unfinished(store: Store, shard: str = WHOLE.name) -> int:
    """Delete what drivers of this shard that were killed had half-written; how many files they were.

    To be called with the lease, before anything else writes. What drivers of other shards may be writing now
    stays.
    """
    if shard == WHOLE.name:
        return _deleted(store, filter(_OF_DRIVERS.match, store.unfinished("")))
    found = [name for folder in ("ledger", "logs") for name in store.unfinished(f"{folder}/{shard}")]
    for folder, prefix in (("manifest", part_prefix(shard)), ("metrics", f"{shard}.")):
        names = store.unfinished(folder, depth=1)
        found += [name for name in names if name.startswith(f"{folder}/.{prefix}")]
    for folder in ("", "videos"):
        found += store.unfinished(folder, depth=1, silent=_ABANDONED_SECONDS)
    return _deleted(store, found)


def sweep_videos(store: Store, folder: str, kept: Iterable[str]) -> int:
    """Delete the videos in videos/<folder> that are not ``kept``; how many they were."""
    return _deleted(store, strays(store, folder, kept))


def strays(store: Store, folder: str, kept: Iterable[str]) -> list[str]:
    """Videos in videos/<folder> that are not ``kept``, and such as were never finished."""
    place, wanted = f"videos/{folder}", set(kept)
    found = [name for name in store.list(place) if _VIDEO.fullmatch(PurePosixPath(name).name)]
    return [*(name for name in found if name not in wanted), *store.unfinished(place)]


def _deleted(store: Store, names: Iterable[str]) -> int:
    count = 0
    for name in names:
        store.delete(name)
        count += 1
    return count

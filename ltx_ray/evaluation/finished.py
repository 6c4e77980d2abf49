"""What OUT says of its finished videos: where they are, what was asked for, where chunks and tiles meet."""

from collections.abc import Iterator
from dataclasses import dataclass

from ltx_ray.evaluation.zones import Zones
from ltx_ray.past_run import PastRun
from ltx_ray.planning.plan import plan_shot
from ltx_ray.storage import Store
from ltx_ray.types import Shot, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One finished video of a run."""

    id: str
    name: str  # of the file, relative to OUT
    prompt: str | None  # None: a schedule of several
    zones: Zones


def finished_videos(store: Store, limit: int | None = None) -> Iterator[Finished]:
    """The videos that OUT's manifest says are done, by id; the first ``limit``.

    Zones need the run's model, whose config says how it was cut; where it cannot be found any more they are
    not known. Raises UserError where OUT holds no run.
    """
    run = PastRun.open(store)
    settings = run.plan_settings
    rows = run.rows(["status", "file_name"])
    done = [row for row in rows if row["status"] == Status.DONE.value and row["file_name"]]
    for row in done[:limit]:
        shot = run.shot(row)
        yield Finished(
            id=row["id"],
            name=row["file_name"],
            prompt=only_prompt(shot),
            zones=Zones() if settings is None else Zones.of(plan_shot(shot, settings), settings.ratios),
        )


def only_prompt(shot: Shot) -> str | None:
    """The prompt of a shot that has one for all of its length."""
    return shot.prompts[0].text if len(shot.prompts) == 1 else None

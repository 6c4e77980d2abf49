"""The most that one task of a stage has to hold, over the shots of a manifest: in cells and tokens."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from ltx_ray.errors import UserError
from ltx_ray.planning.plan import PlanSettings, plan_shot
from ltx_ray.types import Shot, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Of the largest tasks; 0 where there is no such task."""

    tokens: int = 0  # of a chunk's window with all that is appended to it
    is_held: bool = False  # whether a tail or an image holds some of them: then each has its own timestep
    tile_cells: int = 0  # latent cells of a decoded tile, context included
    image_cells: int = 0  # of an image


def workload_of(shots: Iterable[Shot], settings: PlanSettings) -> Workload:
    """The largest tasks of ``shots``. Those that cannot be planned are left out: they will be rejected."""
    tokens = tile_cells = image_cells = 0
    is_held = False
    known = set()
    for shot in shots:
        size = (shot.num_frames, shot.width, shot.height, shot.chunk_size, shot.overlap_frames)
        if (kind := (*size, shot.image is None)) in known:
            continue
        known.add(kind)
        with suppress(UserError):
            plan = plan_shot(shot, settings)
            plane, image = plan.frame.rows * plan.frame.columns, int(shot.image is not None)
            tokens = max(tokens, *((chunk.length + chunk.tail + image) * plane for chunk in plan.chunks))
            is_held = is_held or bool(image) or any(chunk.tail for chunk in plan.chunks)
            cells = (task.cost for task in plan.tasks if task.key.stage is Stage.DECODE)
            tile_cells = max(tile_cells, *map(int, cells))
            image_cells = max(image_cells, image * plane)
    return Workload(tokens=tokens, is_held=is_held, tile_cells=tile_cells, image_cells=image_cells)

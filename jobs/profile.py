"""``ltx-ray profile``: how long tasks took in a run, as a profile for ``ltx-ray plan``."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ltx_ray.errors import LtxRayError, UserError
from ltx_ray.past_run import PastRun
from ltx_ray.planning.fitting import Took, collect, fit
from ltx_ray.planning.plan import plan_shot
from ltx_ray.planning.timing import Profile
from ltx_ray.storage import Store
from ltx_ray.types import Stage, Status

_COLUMNS = ("status", "attempts", "chunks", "stage_seconds", "device")


def profile(out: str, device: str | None = None) -> Profile:
    """The profile of the shots in OUT that were finished at the first try, on one ``device``: as the output
    manifest names it; None: the one there is. Raises UserError where that is not clear or there are none."""
    run = PastRun.open(Store(out))
    if run.plan_settings is None:
        raise UserError(
            f"the shots in {out} cannot be planned again: their model, {run.model}, cannot be found here"
        )
    rows = [row for row in run.rows(_COLUMNS) if _is_clean(row)]
    devices = Counter(row["device"] for row in rows)
    if device is None and len(devices) > 1:
        counts = ", ".join(f"{name} ({number} shots)" for name, number in sorted(devices.items()))
        raise UserError(f"the run in {out} used several devices: name one with --device: {counts}")
    if device is not None and device not in devices:
        raise UserError(
            f"--device must be one of {', '.join(sorted(devices)) or 'none'}, as OUT names them, "
            f"got {device!r}"
        )
    chosen = device or next(iter(devices), "")
    took = _took(run, [row for row in rows if row["device"] == chosen])
    return fit(collect(took), chosen, run.model)


def _is_clean(row: dict[str, Any]) -> bool:
    return bool(row["status"] == Status.DONE.value and row["attempts"] == 1)


def _took(run: PastRun, rows: list[dict[str, Any]]) -> Iterator[Took]:
    assert run.plan_settings is not None
    for row in rows:
        try:
            plan = plan_shot(run.shot(row), run.plan_settings)
        except LtxRayError:  # of an older version: its row means something else now
            continue
        seconds = row["stage_seconds"] or {}
        yield Took(
            plan,
            {chunk["index"]: chunk["seconds"] for chunk in row["chunks"] or ()},
            {stage: seconds.get(stage.value) or 0.0 for stage in Stage},
        )

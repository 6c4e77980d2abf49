"""What OUT says of its finished videos: where they are, what was asked for, where chunks and tiles meet."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from ltx_ray.config import RenderConfig
from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES, decoder_bytes_per_cell
from ltx_ray.errors import LtxRayError, UserError
from ltx_ray.evaluation.zones import Zones
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.shot import parse_row
from ltx_ray.media.access import TRUSTED
from ltx_ray.models.checkpoint import resolve
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.plan import PlanSettings, plan_shot
from ltx_ray.planning.tiles import TileSettings
from ltx_ray.run import DTYPE_BYTES, RUN_FILE
from ltx_ray.storage import Store
from ltx_ray.types import Shot, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One finished video of a run."""

    id: str
    name: str  # of the file, relative to OUT
    prompt: str | None  # None: a schedule of several
    zones: Zones


def is_run(store: Store) -> bool:
    """Whether a folder is the OUT of a run."""
    return store.size(RUN_FILE) is not None


def finished_videos(store: Store, limit: int | None = None) -> Iterator[Finished]:
    """The videos that OUT's manifest says are done, by id; the first ``limit``.

    Zones need the run's model, whose config says how it was cut; where it cannot be found any more they are
    not known. Raises UserError where OUT holds no run.
    """
    if not is_run(store):
        raise UserError(f"{store.url} must be a run's output folder, with a {RUN_FILE} in it, got none")
    run = json.loads(store.read(RUN_FILE))
    config = RenderConfig.model_validate(run["config"])
    settings = _plan_settings(run, config)
    rows: dict[str, dict[str, Any]] = {}
    for name in store.list("manifest"):
        if name.endswith(".parquet"):
            with store.fetched(name) as path:
                table = pq.read_table(
                    path, columns=["id", "generation", "status", "file_name", "input", "row"]
                )
            for row in table.to_pylist():
                known = rows.get(row["id"])
                if known is None or known["generation"] <= row["generation"]:
                    rows[row["id"]] = row
    done = [row for _, row in sorted(rows.items()) if row["status"] == Status.DONE.value and row["file_name"]]
    for row in done[:limit]:
        shot = parse_row(
            RawRow(number=row["row"], values=json.loads(row["input"])), config, "", access=TRUSTED
        )
        yield Finished(
            id=row["id"],
            name=row["file_name"],
            prompt=only_prompt(shot),
            zones=Zones() if settings is None else Zones.of(plan_shot(shot, settings), settings.ratios),
        )


def only_prompt(shot: Shot) -> str | None:
    """The prompt of a shot that has one for all of its length."""
    return shot.prompts[0].text if len(shot.prompts) == 1 else None


def _plan_settings(run: dict[str, Any], config: RenderConfig) -> PlanSettings | None:
    """How the run planned its shots; None where its model cannot be found."""
    revision = f"@{run['revision']}" if run.get("revision") else ""
    try:
        checkpoint = resolve(config.model.name.partition("@")[0] + revision)
    except LtxRayError:
        return None
    ratios = checkpoint.ratios()
    content = run["content"]
    cell = decoder_bytes_per_cell(checkpoint.vae_config(), DTYPE_BYTES[content["model"]["dtype"]])
    budget = DEFAULT_TILE_BYTES[content["device"]["kind"]]
    return PlanSettings(
        chunks=ChunkSettings(
            chunk_size=config.sampling.chunk_size, overlap_frames=config.sampling.overlap_frames
        ),
        tiles=TileSettings.of(config.decoding, ratios, cell, budget),
        ratios=ratios,
        num_inference_steps=content["sampling"]["num_inference_steps"],
        guidance_scale=content["sampling"]["guidance_scale"],
        audio_guidance_scale=config.sampling.audio_guidance_scale,
        hears=content["model"]["audio_adapter"] is not None,
    )

"""What OUT tells of a run, over or not: its config, its rows, how they were planned."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from ltx_ray.config import RenderConfig
from ltx_ray.decoding.budget import DEFAULT_TILE_BYTES, decoder_bytes_per_cell
from ltx_ray.errors import LtxRayError, UserError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.shot import parse_row
from ltx_ray.media.access import TRUSTED
from ltx_ray.models.checkpoint import resolve
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.plan import PlanSettings
from ltx_ray.planning.tiles import TileSettings
from ltx_ray.run import DTYPE_BYTES, RUN_FILE
from ltx_ray.storage import Store
from ltx_ray.types import Shot

_NEEDED = ("id", "generation", "row", "input")


def is_run(store: Store) -> bool:
    """Whether a folder is the OUT of a run."""
    return store.size(RUN_FILE) is not None


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run, as its OUT describes it."""

    store: Store
    config: RenderConfig
    model: str
    plan_settings: PlanSettings | None  # None: its model cannot be found here, and so not how it planned

    @classmethod
    def open(cls, store: Store) -> "PastRun":
        """Raises UserError where OUT holds no run."""
        if not is_run(store):
            raise UserError(f"{store.url} must be a run's output folder, with a {RUN_FILE} in it, got none")
        run = json.loads(store.read(RUN_FILE))
        config = RenderConfig.model_validate(run["config"])
        return cls(store, config, run["model"], _plan_settings(run, config))

    def rows(self, columns: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The current row of each shot in OUT's manifest, by id: ``columns``, and what ``shot`` needs."""
        wanted = list(dict.fromkeys((*_NEEDED, *columns)))
        rows: dict[str, dict[str, Any]] = {}
        for row in self._all_rows(wanted):
            known = rows.get(row["id"])
            if known is None or known["generation"] <= row["generation"]:
                rows[row["id"]] = row
        return [row for _, row in sorted(rows.items())]

    def shot(self, row: dict[str, Any]) -> Shot:
        """The shot that a row of ``rows`` was."""
        raw = RawRow(number=row["row"], values=json.loads(row["input"]))
        return parse_row(raw, self.config, "", access=TRUSTED)

    def _all_rows(self, columns: list[str]) -> Iterator[dict[str, Any]]:
        for name in self.store.list("manifest"):
            if name.endswith(".parquet"):
                with self.store.fetched(name) as path:
                    yield from pq.read_table(path, columns=columns).to_pylist()


def _plan_settings(run: dict[str, Any], config: RenderConfig) -> PlanSettings | None:
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

"""The output manifest: its Parquet schema, declared once, and results as tables and as plain JSON.

Times are microseconds in UTC. ``stage_seconds`` is a struct with one number per stage, because pandas,
DuckDB and datasets all read a struct well, and a map less so. ``input`` is the row as JSON text. The figures
of a result's ``evaluation`` are columns of their own, null where a figure was not measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from ltx_ray.evaluation.figures import FIGURES, NAMES
from ltx_ray.types import ChunkResult, ShotResult, Stage, Status

_TIME = pa.timestamp("us", tz="UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("queued_at", "started_at", "finished_at")
_FIGURES = {"number": pa.float64(), "count": pa.int64(), "truth": pa.bool_()}

CHUNK_TYPE = pa.struct(
    [
        pa.field("index", pa.int32()),
        pa.field("start_frame", pa.int64()),
        pa.field("num_frames", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("attempts", pa.int32()),
    ]
)

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("generation", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_kind", pa.string()),
        pa.field("error", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("adapted", pa.list_(pa.string())),
        pa.field("file_name", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("num_frames", pa.int64()),
        pa.field("fps", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("seconds", pa.float64()),
        pa.field("seed", pa.int64()),
        pa.field("chunks", pa.list_(CHUNK_TYPE)),
        pa.field("model", pa.string()),
        pa.field("model_hash", pa.string()),
        pa.field("config_hash", pa.string()),
        pa.field("version", pa.string()),
        pa.field("queued_at", _TIME),
        pa.field("started_at", _TIME),
        pa.field("finished_at", _TIME),
        pa.field("stage_seconds", pa.struct([pa.field(stage.value, pa.float64()) for stage in Stage])),
        pa.field("device", pa.string()),
        pa.field("node", pa.string()),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("input", pa.string(), nullable=False),
        *(pa.field(figure.name, _FIGURES[figure.kind]) for figure in FIGURES),
        pa.field("evaluation_error", pa.string()),
    ]
)


def to_table(results: Sequence[ShotResult]) -> pa.Table:
    """The results as rows of MANIFEST_SCHEMA. Times are rounded to microseconds."""
    return pa.Table.from_pylist([_to_row(result) for result in results], schema=MANIFEST_SCHEMA)


def from_table(table: pa.Table) -> list[ShotResult]:
    """The results that ``to_table`` was given."""
    return [_from_row(row) for row in table.select(MANIFEST_SCHEMA.names).to_pylist()]


def result_to_json(result: ShotResult) -> dict[str, Any]:
    """The result as plain JSON data, every field under its name: the form of the ledger."""
    record = {field.name: getattr(result, field.name) for field in fields(result)}
    record["status"] = result.status.value
    record["adapted"] = list(result.adapted)
    record["chunks"] = [asdict(chunk) for chunk in result.chunks]
    record["stage_seconds"] = dict(result.stage_seconds)
    record["evaluation"] = dict(result.evaluation)
    return record


def result_from_json(record: Mapping[str, Any]) -> ShotResult:
    """The result that ``result_to_json`` was given; fields that are left out have their defaults."""
    values = dict(record)
    values["status"] = Status(values["status"])
    values["chunks"] = tuple(ChunkResult(**chunk) for chunk in values.get("chunks", ()))
    values["adapted"] = tuple(values.get("adapted") or ())
    return ShotResult(**values)


def _to_row(result: ShotResult) -> dict[str, Any]:
    row = {name: _utf8(value) for name, value in result_to_json(result).items()}
    for name in _TIMES:
        if row[name] is not None:
            row[name] = _EPOCH + timedelta(microseconds=round(row[name] * 1_000_000))
    unknown = set(result.stage_seconds) - set(MANIFEST_SCHEMA.field("stage_seconds").type.names)
    assert not unknown, f"stage_seconds has no column for {sorted(unknown)}"
    figures: dict[str, Any] = row.pop("evaluation")
    unknown = set(figures) - set(NAMES)
    assert not unknown, f"there is no column for the figures {sorted(unknown)}"
    return row | figures


def _from_row(row: dict[str, Any]) -> ShotResult:
    for name in _TIMES:
        if row[name] is not None:
            row[name] = (row[name] - _EPOCH) // timedelta(microseconds=1) / 1_000_000
    stages = row["stage_seconds"] or {}
    row["stage_seconds"] = {stage: seconds for stage, seconds in stages.items() if seconds is not None}
    figures = {name: row.pop(name) for name in NAMES}
    row["evaluation"] = {name: value for name, value in figures.items() if value is not None}
    return result_from_json(row)


def _utf8(value: Any) -> Any:
    # A traceback may quote a path that is not Unicode, which would spoil the whole file.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

"""Rows of Parquet files, by small batches, as plain Python values."""

import datetime
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ltx_ray.errors import ManifestError
from ltx_ray.manifest.text_rows import Broken, require_prompt_column

_BATCH_ROWS = 256


def parquet_rows(file: BinaryIO) -> Iterator[dict[str, Any] | Broken]:
    """The file's rows in order; nulls are absent, times are ISO 8601 text, decimals are text.

    ``file`` must be seekable. Raises ManifestError for a table without prompts, and pyarrow's own
    errors (most are ValueError or OSError) for bytes that are not Parquet.
    """
    table = pq.ParquetFile(file)
    names = table.schema_arrow.names
    require_prompt_column(names)
    if len(set(names)) < len(names):
        raise ManifestError(f"must name each column once, got the columns {names}")
    for batch in table.iter_batches(batch_size=_BATCH_ROWS):
        columns = [_values(column) for column in batch.columns]
        for cells in zip(*columns, strict=True):
            yield _row(names, cells)


def _values(column: Any) -> list[Any]:
    # Python's datetime has no nanoseconds; pyarrow would need pandas for them.
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):  # text that is no UTF-8, a date beyond Python's: of some of its cells
        values = [_value(cell) for cell in column]
    return values


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except (ValueError, OverflowError) as error:
        return error


def _row(names: list[str], cells: tuple[Any, ...]) -> dict[str, Any] | Broken:
    row = {}
    for name, cell in zip(names, cells, strict=True):
        try:
            value = _plain(cell)
        except TypeError as error:
            reason = f"column {name!r} must hold text, numbers or lists of them, got {error}"
            return Broken(reason, repr(cells))
        if value is not None:
            row[name] = value
    return row


def _plain(value: Any) -> Any:
    """``value`` as JSON-able data (NaN stays). Raises TypeError, naming the type, for what is none."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Exception):
        raise TypeError(f"what cannot be read: {value}")
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    raise TypeError("bytes" if isinstance(value, bytes) else type(value).__name__)

"""Rows of the text formats, as streams: JSON lines and CSV.

A row that is broken costs itself only: it is yielded as ``Broken`` and reading goes on behind it.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from ltx_ray.errors import ManifestError
from ltx_ray.manifest.content import is_unicode, shorten

MAX_LINE = 2**20  # characters; a longer line is no row, and is skipped without being held in memory
_OTHER_FILES = {  # by what they begin with
    b"\x1f\x8b": "a gzip file; end its name in .gz",
    b"(\xb5/\xfd": "a zstd file; end its name in .zst",
    b"PAR1": "a Parquet file; end its name in .parquet",
    b"PK\x03\x04": "a zip file or a spreadsheet; unpack it, or save it as CSV",
    b"\xff\xfe": "UTF-16; save it as UTF-8",
    b"\xfe\xff": "UTF-16; save it as UTF-8",
}
REQUIRED = ("prompt", "prompts")  # a table must have one of these columns


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that cannot be read, why, and its text as far as it is known."""

    reason: str
    text: str


class _LineError(csv.Error):
    """A line that cannot be read; a csv.Error because the csv module is who reads on."""


class _Lines(Iterator[str]):
    """The stream's lines. One that is too long or no UTF-8 raises, and the next call goes on behind it.

    Raises ManifestError where the first line is not text: then nothing is.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.last: str | None = None

    def __next__(self) -> str:
        is_first = self.last is None
        line = self.last = self._stream.readline(MAX_LINE)
        if not line:
            raise StopIteration
        if is_first:
            _check_first(line)
        if len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
            while (rest := self._stream.readline(MAX_LINE)) and not rest.endswith(("\n", "\r")):
                pass
            raise _LineError(f"a line must have at most {MAX_LINE:,} characters")
        if not is_unicode(line):
            raise _LineError("must be text in UTF-8")
        return line

    def broken(self, error: _LineError) -> Broken:
        """The row of the last line, which cannot be read."""
        text = (self.last or "").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return Broken(f"{error}, got {shorten(text)}", text)


def _check_first(line: str) -> None:
    """Raise ManifestError where a file that begins with ``line`` is no text in UTF-8."""
    data = line[:4].encode("utf-8", "surrogateescape")
    other = next((what for start, what in _OTHER_FILES.items() if data.startswith(start)), None)
    if other is not None or not is_unicode(line):
        raise ManifestError(f"must be text in UTF-8, got {other or 'other bytes: ' + shorten(line)}")


def json_rows(stream: TextIO) -> Iterator[dict[str, Any] | Broken]:
    """One JSON object per line; blank lines are skipped."""
    lines = _Lines(stream)
    while True:
        try:
            line = next(lines)
        except StopIteration:
            return
        except _LineError as error:
            yield lines.broken(error)
            continue
        if line.strip():
            yield _json_row(line.strip())


def csv_rows(stream: TextIO, delimiter: str) -> Iterator[dict[str, Any] | Broken]:
    """One row per record below a header; empty cells are absent; blank lines are skipped.

    ``stream`` must have been opened with ``newline=""``, so that quoted cells keep their line ends.
    Raises ManifestError where the header is missing, names no prompt, or names a column twice.
    """
    lines = _Lines(stream)
    # Strict, because otherwise a quote that is never closed swallows all rows behind it silently.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _header(reader)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except _LineError as error:
            yield lines.broken(error)
            continue
        except csv.Error as error:
            reason = f"must be CSV with closed quotes: {error}, got {shorten(lines.last)}"
            yield Broken(reason, lines.last or "")
            continue
        if len(cells) > len(header):
            reason = f"must have the header's {len(header)} fields, got {len(cells)}: {shorten(cells)}"
            yield Broken(reason, delimiter.join(cells))
        elif cells:
            yield {name: cell for name, cell in zip(header, cells, strict=False) if cell != ""}


def require_prompt_column(names: list[str]) -> None:
    """Raise ManifestError unless one of the columns can be a prompt."""
    if not any(name in REQUIRED for name in names):
        raise ManifestError(f"must have a column 'prompt' or 'prompts', got the columns {shorten(names)}")


def _json_row(line: str) -> dict[str, Any] | Broken:
    try:
        value = json.loads(line)
    except RecursionError:
        return Broken(f"must be JSON that is not nested so deeply, got {shorten(line)}", line)
    except ValueError as error:  # besides syntax: Python reads no integers of more than 4,300 digits
        what = error if isinstance(error, json.JSONDecodeError) else "a number has more than 4,300 digits"
        return Broken(f"must be a JSON object on one line: {what}, got {shorten(line)}", line)
    if not isinstance(value, dict):
        return Broken(f'must be a JSON object such as {{"prompt": ...}}, got {shorten(value)}', line)
    return value


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        cells = next((cells for cells in reader if cells), [])
    except csv.Error as error:
        raise ManifestError(f"must begin with a line that names the columns: {error}") from error
    names = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, 1)]
    if not names:
        return names
    try:
        require_prompt_column(names)
    except ManifestError as error:
        raise ManifestError(f"must begin with a header, a line that names the columns: it {error}") from error
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ManifestError(f"must name each column once, got {shorten(twice)} more than once")
    return names

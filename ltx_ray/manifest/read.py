"""Reading manifests: any known file type, compressed or not, from any fsspec URL, as a stream of rows.

Every data row is yielded exactly once, in the manifest's order, and memory does not grow with their
number. What is wrong with one row is told in that row; what is wrong with the file is a ManifestError.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from ltx_ray.errors import ManifestError
from ltx_ray.manifest.content import RawRow
from ltx_ray.manifest.parquet_rows import parquet_rows
from ltx_ray.manifest.text_rows import Broken, csv_rows, json_rows
from ltx_ray.visible import visible

__all__ = ["RawRow", "folder_of", "read_rows"]

_KNOWN = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_KNOWN_TEXT = f"{', '.join(_KNOWN)} (each also with .gz or .zst), or a folder of .parquet files"


@dataclass(frozen=True, slots=True)
class _Source:
    """A manifest that exists."""

    fs: Any
    path: str
    is_folder: bool


def read_rows(url: str) -> Iterator[RawRow]:
    """The rows of the manifest at ``url``, numbered from 1.

    Raises ManifestError if it is missing, unreadable, of an unknown type, empty, or broken as a file;
    a file that is truncated may have given rows before that.
    """
    number = 0
    try:
        for item in _items(_locate(url), url):
            number += 1
            if isinstance(item, Broken):
                yield RawRow(number, None, item.reason, item.text)
            else:
                yield RawRow(number, item)
    except ManifestError as error:
        raise ManifestError(f"manifest {url}: {error}") from error
    except (OSError, EOFError, ValueError, OverflowError, pa.ArrowException) as error:
        raise ManifestError(f"manifest {url}: {_explain(error, number)}") from error
    if number == 0:
        raise ManifestError(f"manifest {url}: must have at least one row, got none")


def folder_of(url: str) -> str:
    """The folder, as a URL or an absolute path, against which the manifest's relative paths count."""
    try:
        source = _locate(url)
    except ManifestError as error:
        raise ManifestError(f"manifest {url}: {error}") from error
    path = source.path.rstrip("/") if source.is_folder else source.path.rpartition("/")[0] or "/"
    return path if isinstance(source.fs, LocalFileSystem) else str(source.fs.unstrip_protocol(path))


def _locate(url: str) -> _Source:
    try:
        fs, path = fsspec.core.url_to_fs(url)
        info = fs.info(path)
    except FileNotFoundError as error:
        raise ManifestError("no such file or folder; check the path") from error
    except PermissionError as error:
        raise ManifestError("no permission to read it; check its mode or the credentials") from error
    except Exception as error:  # every store has its own errors, and all of them mean: not readable
        raise ManifestError(f"cannot be opened: {visible(str(error).strip())}") from error
    if info["type"] not in ("file", "directory"):
        raise ManifestError("must be a file, which is read more than once, got a pipe or a device")
    return _Source(fs, path, info["type"] == "directory")


def _items(source: _Source, url: str) -> Iterator[dict[str, Any] | Broken]:
    if not source.is_folder:
        yield from _file_items(source.fs, source.path)
        return
    source.fs.invalidate_cache(source.path)
    names = sorted(source.fs.ls(source.path, detail=False))
    files = [name for name in names if _is_part(PurePosixPath(name).name)]
    if not files:
        raise ManifestError(f"a folder must hold .parquet files, got {len(names)} other entries")
    for name in files:
        try:
            yield from _file_items(source.fs, name)
        except ManifestError as error:
            raise ManifestError(f"{PurePosixPath(name).name}: {error}") from error


def _is_part(name: str) -> bool:
    # Writers such as Spark leave files with a leading '_' or '.', which are none of the data.
    return name.lower().endswith(".parquet") and not name.startswith((".", "_"))


def _file_items(fs: Any, path: str) -> Iterator[dict[str, Any] | Broken]:
    kind, compression = _kind(path)
    with ExitStack() as stack:
        file = stack.enter_context(fs.open(path, "rb"))
        if compression is not None:
            file = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression))
        if kind == ".parquet":
            yield from parquet_rows(file if compression is None else _unpacked(file, stack))
            return
        # A byte order mark, which spreadsheets write, is dropped; line ends are the readers' matter.
        # Bytes that are no UTF-8 come through as lone surrogates, and cost their line only.
        text = stack.enter_context(
            io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        )
        if kind in (".csv", ".tsv"):
            yield from csv_rows(text, "," if kind == ".csv" else "\t")
        else:
            yield from json_rows(text)


def _kind(path: str) -> tuple[str, str | None]:
    """The file type, and how it is compressed, by the path's suffixes."""
    name = PurePosixPath(path.partition("?")[0] if "://" in path else path).name.lower()
    compression = next((codec for suffix, codec in _COMPRESSED.items() if name.endswith(suffix)), None)
    if compression is not None:
        name = name.rpartition(".")[0]
    kind = next((suffix for suffix in _KNOWN if name.endswith(suffix)), None)
    if kind is None:
        got = PurePosixPath(name).suffix or "none"
        raise ManifestError(f"unknown file type {got!r}; known are {_KNOWN_TEXT}")
    return kind, compression


def _unpacked(file: Any, stack: ExitStack) -> BinaryIO:
    # Parquet is read from its end, so that a stream has to be unpacked first: to disk, not to memory.
    whole = stack.enter_context(tempfile.TemporaryFile())
    shutil.copyfileobj(file, whole)
    whole.seek(0)
    return cast(BinaryIO, whole)


def _explain(error: Exception, number: int) -> str:
    where = f"after row {number}" if number else "at its start"
    if isinstance(error, PermissionError):
        return "no permission to read it; check its mode or the credentials"
    return f"broken or truncated {where}: {visible(str(error).strip())}"

"""The files under OUT that are derived from the ledger: the output manifest and the videos' metadata.

They can be made again at any time, and are always whole: on a local disk a file is written under
another name and renamed, on an object store a put is whole by itself.

    OUT/manifest/part-000001.parquet     rows of ended shots, schema.MANIFEST_SCHEMA
    OUT/manifest/part-0003-000001.parquet  those of shard 3, which no other shard touches
    OUT/videos/README.md                 a dataset card: `datasets.load_dataset("OUT/videos")` works
    OUT/videos/00000/metadata.parquet    finished videos of a folder, `file_name` first
"""

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from ltx_ray.errors import StorageError
from ltx_ray.manifest.row import check_columns
from ltx_ray.manifest.schema import MANIFEST_SCHEMA, to_table
from ltx_ray.manifest.shot import spans_of
from ltx_ray.shard import WHOLE, part_prefix
from ltx_ray.types import ShotResult, Status

_NUMBERED = r"([0-9]{6,})\.parquet"  # behind the prefix of a shard's parts
_ROWS_PER_BATCH = 1000  # as rows of Python they are some 4 KB each, in the file some 100 bytes
_KEPT = (  # columns of the output manifest that go into metadata.parquet as they are
    *("num_frames", "fps", "width", "height", "seconds", "seed", "sha256", "bytes"),
    *("model", "model_hash", "config_hash", "version", "generation", "finished_at", "input"),
)
METADATA_SCHEMA = pa.schema(
    [
        pa.field("file_name", pa.string()),
        *(pa.field(name, pa.string()) for name in ("id", "prompt", "negative_prompt")),
        *(MANIFEST_SCHEMA.field(name) for name in _KEPT),
    ]
)

# Without data_files, datasets guesses splits from words such as "train" or "test" in the names of files,
# and drops the videos without one. The videos come first, so that they decide that this is a folder of
# videos, also where a folder has a single one.
_CARD = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - "*/*.mp4"
    - "*/metadata.parquet"
---

# Videos

Rendered by ltx_ray. Each folder has its videos and a `metadata.parquet` with a row per finished video:
`file_name`, `id`, `prompt`, its size, length, seed and SHA-256, and the whole manifest row as JSON
in `input`.

```python
from datasets import load_dataset

videos = load_dataset("PATH/OF/THIS/FOLDER", split="train")
```
"""


def write_part(out: str, number: int, results: Sequence[ShotResult], shard: str = WHOLE.name) -> str:
    """Write OUT/manifest/part-<number>.parquet; returns its path. Raises StorageError."""
    folder = _Folder(out, "manifest")
    return folder.write(f"{part_prefix(shard)}{number:06d}.parquet", _parquet([to_table(results)]))


def next_part(out: str, shard: str = WHOLE.name) -> int:
    """The first part number behind all that the shard has in OUT/manifest; 1 if there are none."""
    return max(_Folder(out, "manifest").parts(shard).values(), default=0) + 1


def compact(
    out: str, results: Iterable[ShotResult], rows_per_file: int = 100_000, shard: str = WHOLE.name
) -> list[str]:
    """Replace all parts of the shard by few that hold ``results``, every ended shot of it; returns their
    paths.

    The new parts are whole before the first old one goes: a reader of ``part-*.parquet`` may see a row
    twice for a moment, also after a crash until the next compaction, but never misses one.
    Results are taken as a stream, a thousand at a time. Raises StorageError.
    """
    folder = _Folder(out, "manifest")
    old = folder.parts(shard)
    number = max(old.values(), default=0)
    written = []
    batch = min(rows_per_file, _ROWS_PER_BATCH)
    batches = map(to_table, _groups(results, batch))
    for first in batches:
        number += 1
        tables = chain([first], islice(batches, rows_per_file // batch - 1))
        written.append(folder.write(f"{part_prefix(shard)}{number:06d}.parquet", _parquet(tables)))
    folder.remove(old)
    return written


def write_video_folder(out: str, folder: str, results: Iterable[ShotResult]) -> str:
    """Write OUT/videos/<folder>/metadata.parquet; returns its path. Raises StorageError.

    Of ``results``, those count that are done and whose video lies in the folder.
    """
    place = PurePosixPath("videos", folder)
    done = [
        result
        for result in results
        if result.status is Status.DONE
        and result.file_name
        and PurePosixPath(result.file_name).parent == place
    ]
    manifest = to_table(done)
    texts = [_texts(result) for result in done]
    columns = [
        pa.array([PurePosixPath(result.file_name or "").name for result in done], pa.string()),
        manifest["id"],
        pa.array([prompt for prompt, _ in texts], pa.string()),
        pa.array([negative for _, negative in texts], pa.string()),
        *(manifest[name] for name in _KEPT),
    ]
    table = pa.Table.from_arrays(columns, schema=METADATA_SCHEMA)
    return _Folder(out, str(place)).write("metadata.parquet", _parquet([table]))


def write_dataset_card(out: str) -> str:
    """Write OUT/videos/README.md, by which ``datasets`` finds all videos as one split; returns its path."""
    return _Folder(out, "videos").write("README.md", _CARD.encode())


class _Folder:
    """A folder under OUT whose files appear whole."""

    def __init__(self, out: str, name: str) -> None:
        self._fs, root = fsspec.core.url_to_fs(out)
        self._path = f"{root.rstrip('/')}/{name}"

    def write(self, name: str, data: bytes) -> str:
        path = f"{self._path}/{name}"
        try:
            if isinstance(self._fs, LocalFileSystem):
                _replace(Path(path), data)
            else:
                self._fs.pipe_file(path, data)
        except OSError as error:
            raise StorageError(
                f"cannot write {path}: {error}; is the disk full, or the folder read-only?"
            ) from error
        return path

    def parts(self, shard: str) -> dict[str, int]:
        """The parts of the manifest that are a shard's: path -> number."""
        part = re.compile(re.escape(part_prefix(shard)) + _NUMBERED, re.ASCII)
        try:
            self._fs.invalidate_cache(self._path)
            paths = self._fs.ls(self._path, detail=False)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StorageError(f"cannot list {self._path}: {error}") from error
        names = {path: part.fullmatch(PurePosixPath(path).name) for path in paths}
        return {path: int(match[1]) for path, match in names.items() if match}

    def remove(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                self._fs.rm_file(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError(f"cannot delete {path}: {error}") from error


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending is that of ``Store``'s unfinished files, so that they are swept with them.
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.part"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _parquet(tables: Iterable[pa.Table]) -> bytes:
    """At least one table, each a row group of the file."""
    stream = iter(tables)
    first = next(stream)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, first.schema, compression="zstd") as writer:
        for table in chain([first], stream):
            writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _groups(results: Iterable[ShotResult], size: int) -> Iterator[list[ShotResult]]:
    """At least one group, so that readers find the columns of an empty manifest too."""
    stream = iter(results)
    yield list(islice(stream, size))
    while group := list(islice(stream, size)):
        yield group


def _texts(result: ShotResult) -> tuple[str | None, str | None]:
    """The shot's prompt, a schedule's prompts on lines of their own, and its negative prompt."""
    values: dict[str, Any] = json.loads(result.input)
    row, _ = check_columns(values)
    return "\n".join(span.text for span in spans_of(row)) or None, row.negative_prompt

"""The first rows of a manifest: what a run will be asked for, without reading millions of rows for it."""

from collections.abc import Iterator
from itertools import islice

from ltx_ray.config import RenderConfig
from ltx_ray.manifest.read import folder_of, read_rows
from ltx_ray.manifest.row import RowError
from ltx_ray.manifest.shot import parse_row
from ltx_ray.types import Shot

LOOKED_AT = 10_000  # rows: they take a few seconds


def first_shots(url: str, config: RenderConfig, limit: int | None = None) -> Iterator[Shot]:
    """The shots of a manifest's first ``LOOKED_AT`` rows, or of its first ``limit``; bad rows are left out.

    Raises ManifestError where the manifest cannot be read.
    """
    base = folder_of(url)
    for raw in islice(read_rows(url), min(LOOKED_AT, limit or LOOKED_AT)):
        try:
            yield parse_row(raw, config, base)
        except RowError:
            continue

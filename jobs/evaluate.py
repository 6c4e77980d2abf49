"""``ltx-ray evaluate``: measures the finished videos of a run, or any video files."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ltx_ray.config import SamplingConfig
from ltx_ray.errors import UserError
from ltx_ray.evaluation.evaluate import Evaluation, evaluate_video, figures
from ltx_ray.evaluation.figures import FIGURES, Value
from ltx_ray.evaluation.finished import finished_videos
from ltx_ray.evaluation.frames import count_frames
from ltx_ray.evaluation.picture import draw_evaluation
from ltx_ray.evaluation.statistics import Estimate, summarise
from ltx_ray.evaluation.zones import Zones, seams_of
from ltx_ray.past_run import is_run
from ltx_ray.planning.chunks import ChunkSettings
from ltx_ray.planning.geometry import Ratios
from ltx_ray.storage import Store
from ltx_ray.visible import visible

_FOLDER = "evaluation"  # of an OUT, for its pictures
# Columns of the table of videos; the summary has all figures.
_SHOWN = {
    "sync_offset_ms": "offset ms",
    "sync_p95_ms": "p95 ms",
    "sync_missed": "missed",
    "seam_difference": "seams",
    "seam_edges": "edges",
    "drift_brightness": "drift",
    "tile_ratio": "tiles",
    "frozen": "frozen",
    "world_colour_right": "colour",
    "world_shape_right": "shape",
    "world_direction_right": "way",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRequest:
    """What the command line asked for."""

    sources: tuple[str, ...]  # OUTs and video files, paths or URLs
    pictures: str | None = None  # folder for pictures; None: OUT/evaluation, and none of loose videos
    prompt: str | None = None  # of loose videos
    chunk_size: int | None = None  # frames; of loose videos: None: where their chunks meet is not known
    overlap_frames: int | None = None  # likewise; None: the configuration's default
    limit: int | None = None  # videos of each OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One video, measured."""

    video: str  # path or URL
    id: str
    figures: dict[str, Value]
    picture: str | None  # where its picture was written


@dataclass(frozen=True, slots=True, kw_only=True)
class _Video:
    id: str
    store: Store | None  # None: ``name`` is a path or URL by itself
    name: str
    prompt: str | None
    zones: Zones
    pictures: Store | None
    picture: str  # the picture's name in ``pictures``

    @property
    def path(self) -> str:
        return self.name if self.store is None else f"{self.store.url.rstrip('/')}/{self.name}"


def evaluate(request: EvaluateRequest, say: Callable[[str], None]) -> list[Measured]:
    """Measure every video of ``request``; ``say`` is told of each. Raises UserError for what is no video."""
    videos = [video for source in request.sources for video in _videos(source, request)]
    if not videos:
        raise UserError("there is no finished video to evaluate: is anything done in the output folder?")
    measured = []
    for number, video in enumerate(videos, 1):
        say(f"{number}/{len(videos)} {video.id}")
        measured.append(_measured(video))
    return measured


def document(measured: Sequence[Measured]) -> dict[str, Any]:
    """All of it as plain JSON data."""
    summary = summarise([each.figures for each in measured])
    return {
        "videos": [asdict(each) for each in measured],
        "summary": {name: asdict(found) for name, found in summary.items()},
    }


def tables(measured: Sequence[Measured]) -> RenderableType:
    """A row for each video, then each figure over all of them."""
    names = [name for name in _SHOWN if any(name in each.figures for each in measured)]
    rows = Table(box=None, padding=(0, 1), header_style="dim")
    rows.add_column("video", overflow="ellipsis", no_wrap=True)
    for name in names:
        rows.add_column(_SHOWN[name], justify="right", no_wrap=True)
    for each in measured:
        rows.add_row(Text(visible(each.id)), *(_cell(each.figures.get(name)) for name in names))
    summary = Table(box=None, padding=(0, 1), header_style="dim")
    for title in ("figure", "median", "95% interval", "videos", "meaning"):
        is_text = title in ("figure", "meaning")
        summary.add_column(title, justify="left" if is_text else "right", no_wrap=True, overflow="ellipsis")
    meanings = {figure.name: figure.meaning for figure in FIGURES}
    for name, found in summarise([each.figures for each in measured]).items():
        summary.add_row(name, *_estimate(found), Text(meanings[name], style="dim"))
    pictures = [each.picture for each in measured if each.picture]
    parts: list[RenderableType] = [rows, Text(), summary]
    if pictures:
        parts += [Text(), Text(f"pictures: {PurePath(pictures[0]).parent!s}")]
    return Group(*parts)


def _videos(source: str, request: EvaluateRequest) -> Iterator[_Video]:
    store = Store(source)
    chosen = None if request.pictures is None else Store(request.pictures)
    if not (store.is_local and store.local("").is_file()) and is_run(store):
        for found in finished_videos(store, request.limit):
            yield _Video(
                id=found.id,
                store=store,
                name=found.name,
                prompt=found.prompt,
                zones=found.zones,
                pictures=chosen or store,
                picture=f"{found.id}.png" if chosen else f"{_FOLDER}/{found.id}.png",
            )
        return
    if store.is_local and store.local("").is_dir():
        raise UserError(
            f"{source} must be a run's output folder, with run.json in it, or a video, got a folder"
        )
    name = PurePath(source).stem
    yield _Video(
        id=name,
        store=None,
        name=source,
        prompt=request.prompt,
        zones=_loose_zones(source, request),
        pictures=chosen,
        picture=f"{name}.png",
    )


def _loose_zones(url: str, request: EvaluateRequest) -> Zones:
    if request.chunk_size is None:
        return Zones()
    given = {"chunk_size": request.chunk_size, "overlap_frames": request.overlap_frames}
    sampling = SamplingConfig.checked(**{name: value for name, value in given.items() if value is not None})
    settings = ChunkSettings(chunk_size=sampling.chunk_size, overlap_frames=sampling.overlap_frames)
    return Zones(seams=seams_of(count_frames(url), settings, Ratios()))


def _measured(video: _Video) -> Measured:
    opened = nullcontext(video.name) if video.store is None else video.store.fetched(video.name)
    with opened as path:
        found = evaluate_video(str(path), prompt=video.prompt, zones=video.zones)
    written = None
    if video.pictures is not None:
        video.pictures.write(video.picture, _png(found, video))
        written = f"{video.pictures.url.rstrip('/')}/{video.picture}"
    return Measured(video=video.path, id=video.id, figures=figures(found), picture=written)


def _png(found: Evaluation, video: _Video) -> bytes:
    data = io.BytesIO()
    draw_evaluation(found, video.id, video.prompt or "").save(data, "PNG", optimize=True)
    return data.getvalue()


def _estimate(found: Estimate) -> tuple[str, str, str]:
    interval = f"{_cell(found.low)} .. {_cell(found.high)}" if found.videos > 1 else "-"
    return _cell(found.value), interval, str(found.videos)


def _cell(value: Value | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 4
    return f"{value:.{digits}f}"

"""Where chunks and tiles meet in a finished video: what is measured there is measured elsewhere too."""

from collections.abc import Sequence
from dataclasses import dataclass

from ltx_ray.planning.chunks import ChunkSettings, window_lengths
from ltx_ray.planning.geometry import Ratios, first_frame, latents_of
from ltx_ray.types import ShotPlan


@dataclass(frozen=True, slots=True)
class Seam:
    """Frames [start, stop) over which one chunk is faded into the next; equal where it is cut to it.

    ``start`` is the first frame that the later chunk has a part in.
    """

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Border:
    """A line on which two tiles meet: before pixel ``at`` of the video; ``ramp`` pixels are blended around
    it."""

    at: int
    ramp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """All places of a video at which parts meet. None: it is not known where."""

    seams: tuple[Seam, ...] | None = None  # in order; empty for a video of one chunk
    columns: tuple[Border, ...] | None = None  # borders of tiles side by side
    rows: tuple[Border, ...] | None = None  # borders of tiles on top of each other

    @classmethod
    def of(cls, plan: ShotPlan, ratios: Ratios) -> "Zones":
        """The zones of a planned shot."""
        shot, frame = plan.shot, plan.frame
        seams = [
            Seam(first_frame(c.final_start, ratios), first_frame(c.start + c.overlap, ratios))
            for c in plan.chunks[1:]
        ]
        tiles = [tile for slab in plan.slabs[:1] for tile in slab.tiles]
        xs = {(tile.x.out_start, tile.x.ramp_in) for tile in tiles if tile.x.in_start or tile.x.out_start > 0}
        ys = {(tile.y.out_start, tile.y.ramp_in) for tile in tiles if tile.y.in_start or tile.y.out_start > 0}
        return cls(
            seams=tuple(seam for seam in seams if seam.start < shot.num_frames),
            columns=_borders(xs, frame.crop_left, shot.width),
            rows=_borders(ys, frame.crop_top, shot.height),
        )


def seams_of(num_frames: int, settings: ChunkSettings, ratios: Ratios) -> tuple[Seam, ...]:
    """The seams of a video of ``num_frames`` that was made in such chunks; those of ``plan_chunks``."""
    overlap = max(settings.overlap_frames // ratios.time, 1)
    size = max(latents_of(settings.chunk_size, ratios), overlap + 1)
    seams, start = [], 0
    for length in window_lengths(latents_of(num_frames, ratios), size, overlap)[:-1]:
        start += length - overlap
        seams.append(Seam(first_frame(start + 1, ratios), first_frame(start + overlap, ratios)))
    return tuple(seam for seam in seams if seam.start < num_frames)


def _borders(starts: set[tuple[int, int]], crop: int, size: int) -> tuple[Border, ...]:
    """Borders at the middle of each ramp, in pixels of the cropped video."""
    found = [Border(start + ramp // 2 - crop, ramp) for start, ramp in sorted(starts)]
    return tuple(border for border in found if 0 < border.at < size)


def windows_between(seams: Sequence[Seam], num_frames: int, margin: int) -> list[tuple[int, int]]:
    """Runs of frames [start, stop) that lie further than ``margin`` frames from every seam, and so inside a
    chunk, each as long as a seam with its margins, half overlapping."""
    length = max((seam.stop - seam.start for seam in seams), default=0) + 2 * margin + 1
    edges = [
        0,
        *(edge for seam in seams for edge in (seam.start - margin, seam.stop + margin + 1)),
        num_frames,
    ]
    found = []
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        found += [(at, at + length) for at in range(first, last - length + 1, max(length // 2, 1))]
    return found

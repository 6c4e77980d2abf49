"""Tiles and slabs: which latents are decoded together, and how their pixels fit into one another.

An axis is cut into balanced parts. Around each cut lies a ramp, in pixels, over which the two neighbours
are blended; beyond the ramp each part decodes a halo of latents that only gives its convolutions context.
In time, the frame that is nearest a block's start is never used where the block starts inside the shot: a
decoder makes one frame of a block's first latent, but the ratio's many of the same latent elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from ltx_ray.config import DecodingConfig
from ltx_ray.errors import ConfigError
from ltx_ray.planning.geometry import Ratios, ceil_div, first_frame, latent_at
from ltx_ray.planning.tile_bounds import halo_and_ramp
from ltx_ray.types import Interval, Slab, Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSettings:
    """How to cut (``DecodingConfig`` describes each field); ``bytes_per_cell`` is the decoder's."""

    halo: int  # cells
    temporal_halo: int  # latents
    ramp: int  # pixels
    ramp_frames: int  # frames
    tile_size: int | None  # pixels, bounds the sides of a decoded tile, context included; None: no bound
    slab_frames: int  # at most so many frames are decoded together, halo apart
    tile_bytes: int  # budget for one tile's activations, a bound beside tile_size
    bytes_per_cell: int  # peak activation bytes of the decoder for one cell of one latent
    trailing_halo: int | None = None  # latents of context after a slab; None: temporal_halo

    @classmethod
    def of(
        cls, config: DecodingConfig, ratios: Ratios, bytes_per_cell: int, tile_bytes: int
    ) -> "TileSettings":
        """The config's, with ``tile_overlap`` worked out, and ``tile_bytes`` where it names no budget."""
        halo, ramp = halo_and_ramp(config, ratios.space)
        return cls(
            halo=halo,
            temporal_halo=config.temporal_halo,
            ramp=ramp,
            ramp_frames=config.ramp_frames,
            tile_size=config.tile_size,
            slab_frames=config.slab_frames,
            tile_bytes=config.tile_bytes or tile_bytes,
            bytes_per_cell=bytes_per_cell,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cut:
    """One axis cut into parts, and what that costs, in latents with their halos."""

    intervals: tuple[Interval, ...]
    parts: int
    longest: int
    total: int


def balanced(total: int, parts: int) -> list[tuple[int, int]]:
    """[0, total) cut into ``parts`` runs whose lengths differ by at most one, the longer ones first."""
    base, more = divmod(total, parts)
    runs, start = [], 0
    for index in range(parts):
        stop = start + base + (index < more)
        runs.append((start, stop))
        start = stop
    return runs


def space_interval(core: tuple[int, int], cells: int, settings: TileSettings, ratios: Ratios) -> Interval:
    """The tile axis around the cells of ``core`` on an axis of ``cells`` cells."""
    ratio, half = ratios.space, settings.ramp // 2
    extend = ceil_div(half, ratio) + settings.halo
    start, stop = core
    first, last = start == 0, stop == cells
    in_start = max(start - extend, 0)
    out_start = start * ratio - (0 if first else half)
    return Interval(
        in_start=in_start,
        in_stop=min(stop + extend, cells),
        out_start=out_start,
        out_stop=stop * ratio + (0 if last else half),
        ramp_in=0 if first else 2 * half,
        ramp_out=0 if last else 2 * half,
        crop=out_start - in_start * ratio,
    )


def whole_axis(cells: int, ratios: Ratios) -> Interval:
    """An axis of ``cells`` cells that is not cut."""
    stop = cells * ratios.space
    return Interval(in_start=0, in_stop=cells, out_start=0, out_stop=stop, ramp_in=0, ramp_out=0, crop=0)


def time_interval(core: tuple[int, int], latents: int, settings: TileSettings, ratios: Ratios) -> Interval:
    """The slab axis around the latents of ``core`` in a shot of ``latents`` latents."""
    half = settings.ramp_frames // 2
    start, stop = core
    first, last = start == 0, stop == latents
    out_start = first_frame(start, ratios) - (0 if first else half)
    out_stop = first_frame(stop, ratios) + (0 if last else half)
    in_start = max(latent_at(out_start, ratios) - settings.temporal_halo, 0)
    trailing = settings.temporal_halo if settings.trailing_halo is None else settings.trailing_halo
    in_stop = min(latent_at(out_stop - 1, ratios) + 1 + trailing, latents)
    return Interval(
        in_start=in_start,
        in_stop=in_stop,
        out_start=out_start,
        out_stop=out_stop,
        ramp_in=0 if first else 2 * half,
        ramp_out=0 if last else 2 * half,
        crop=out_start - in_start * ratios.time,
    )


def plan_slabs(
    num_frames: int, latents: int, rows: int, columns: int, settings: TileSettings, ratios: Ratios
) -> tuple[Slab, ...]:
    """All slabs of a shot of ``latents`` latents of ``rows`` x ``columns`` cells; ``num_frames`` are written.

    Of all cuts whose largest decoded tile fits both ``tile_size`` and ``tile_bytes``, the one with the least
    decoded cells is taken (at a tie, the fewest parts). Raises ConfigError where not even the smallest tile
    fits, and says which of the two it does not fit.
    """
    planes = _space_cuts(rows, settings, ratios), _space_cuts(columns, settings, ratios)
    best: tuple[tuple[int, int], tuple[_Cut, _Cut, _Cut]] | None = None
    for times, ys, xs in product(_time_cuts(latents, settings, ratios), *planes):
        if times.longest * ys.longest * xs.longest * settings.bytes_per_cell > settings.tile_bytes:
            continue
        rank = (times.total * ys.total * xs.total, times.parts * ys.parts * xs.parts)
        if best is None or rank < best[0]:
            best = (rank, (times, ys, xs))
    if best is None:
        raise ConfigError(
            f"decoding.tile_bytes is {settings.tile_bytes} bytes, too few for one tile of this shot "
            f"({settings.bytes_per_cell} bytes a latent cell): raise it, or lower decoding.halo"
        )
    return _slabs(num_frames, *(cut.intervals for cut in best[1]))


def _slabs(
    num_frames: int, times: Sequence[Interval], ys: Sequence[Interval], xs: Sequence[Interval]
) -> tuple[Slab, ...]:
    tiles = tuple(
        Tile(index=row * len(xs) + column, y=y, x=x)
        for row, y in enumerate(ys)
        for column, x in enumerate(xs)
    )
    return tuple(
        Slab(
            index=index,
            t=t,
            tiles=tiles,
            first_frame=t.out_start,
            num_frames=min(t.out_stop - t.ramp_out, num_frames) - t.out_start,
        )
        for index, t in enumerate(times)
    )


def _time_cuts(latents: int, settings: TileSettings, ratios: Ratios) -> tuple[_Cut, ...]:
    """Cuts in time, from the fewest slabs that ``slab_frames`` allows to slabs of the least length.

    Slabs become longer than ``slab_frames`` only where they could not hold their two ramps otherwise.
    """
    most = max(settings.slab_frames // ratios.time, 2)
    # A slab between two others must hold two ramps; the first, whose first latent is one frame, two latents.
    limit = max(min(latents // max(ceil_div(settings.ramp_frames, ratios.time), 1), latents - 1), 1)
    # Of all counts whose slabs are of the same longest length, the smallest does the least work; but the
    # first slab, which has a halo at one end only, may be one latent longer than the others.
    fewest = {ceil_div(latents, size) for size in range(2, most + 1)}
    fewest |= {ceil_div(latents - 1, size) for size in range(2, most)}
    counts = sorted({max(min(count, limit), 1) for count in fewest})
    return _useful(
        [
            _cut([time_interval(core, latents, settings, ratios) for core in balanced(latents, n)])
            for n in counts
        ]
    )


# Shots of a manifest are of few sizes, and finding these anew is most of what planning one costs.
@lru_cache(maxsize=64)
def _space_cuts(cells: int, settings: TileSettings, ratios: Ratios) -> tuple[_Cut, ...]:
    """Cuts of one spatial axis within ``tile_size``, from the fewest parts to parts that just hold ramps.

    Raises ConfigError where there is none.
    """
    least = max(ceil_div(settings.ramp, ratios.space), 1)
    counts = range(1, max(cells // least, 1) + 1)
    cuts = [
        _cut([space_interval(core, cells, settings, ratios) for core in balanced(cells, n)]) for n in counts
    ]
    if settings.tile_size is None:
        return _useful(cuts)
    within = [cut for cut in cuts if cut.longest * ratios.space <= settings.tile_size]
    if not within:
        smallest = min(cut.longest for cut in cuts) * ratios.space
        raise ConfigError(
            f"decoding.tile_size is {settings.tile_size} pixels, but the smallest tiles of a frame side of "
            f"{cells * ratios.space} pixels have {smallest}, with {settings.halo} cells of context and a "
            f"ramp of {settings.ramp} pixels: raise it, or lower decoding.tile_overlap (or decoding.halo and "
            "decoding.ramp)"
        )
    return _useful(within)


def _useful(cuts: Sequence[_Cut]) -> tuple[_Cut, ...]:
    """Without those that cost as much as one of fewer parts, or more, and have no smaller tiles."""
    kept: list[_Cut] = []
    for cut in cuts:
        if not any(other.longest <= cut.longest and other.total <= cut.total for other in kept):
            kept.append(cut)
    return tuple(kept)


def _cut(intervals: Sequence[Interval]) -> _Cut:
    lengths = [interval.in_stop - interval.in_start for interval in intervals]
    return _Cut(intervals=tuple(intervals), parts=len(lengths), longest=max(lengths), total=sum(lengths))

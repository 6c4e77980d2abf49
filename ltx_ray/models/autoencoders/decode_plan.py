"""Whole, or in tiles? What the adaptive decoder decides for a clip, before it decodes anything.

A clip that fits the memory budget is decoded whole. Else it is cut into tiles in space and slabs in time
with ``plan_slabs``, as the renderer cuts a shot. A tile size that the user gave is a bound of its own.
"""

from dataclasses import dataclass

from ltx_ray.config import DecodingConfig
from ltx_ray.errors import ConfigError
from ltx_ray.planning.geometry import Ratios, frames_of
from ltx_ray.planning.tile_bounds import check_tile_size, overlap_to_halo_and_ramp
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.types import Slab

# What the renderer does by default: one way to cut.
_DEFAULTS = DecodingConfig()
_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """Bounds on tiles that a user gives, in pixels. None: left to the memory budget and the defaults."""

    tile_size: int | None  # of a decoded tile, context included
    overlap: int | None  # that two neighbouring tiles decode both

    def check(self, ratio: int) -> None:
        """Raises ConfigError where no tile of this size can hold the overlap; ``ratio`` is pixels a cell."""
        if self.tile_size is not None and self.tile_size < 1:
            raise ConfigError(f"tile_size must be a positive number of pixels, got {self.tile_size}")
        if self.overlap is not None and self.overlap < 0:
            raise ConfigError(f"overlap must be 0 pixels or more, got {self.overlap}")
        if self.tile_size is None:
            return
        if self.overlap is not None and self.overlap >= self.tile_size:
            raise ConfigError(
                f"overlap must be smaller than tile_size, got {self.overlap} and {self.tile_size} pixels: "
                "an eighth of it is usual"
            )
        halo, ramp = self.halo_and_ramp(ratio)
        given = f"overlap {self.overlap}"
        if self.overlap is None:
            given = f"{halo} cells of context and a ramp of {ramp} pixels"
        check_tile_size(self.tile_size, halo, ramp, ratio, name="tile_size", given=given)

    def halo_and_ramp(self, ratio: int) -> tuple[int, int]:
        """Context in cells and ramp in pixels; without an overlap those of the renderer's defaults."""
        if self.overlap is None:
            return _DEFAULTS.halo, _DEFAULTS.ramp
        return overlap_to_halo_and_ramp(self.overlap, ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """What was chosen for one clip, and why. Bytes are estimates of one decode's activations."""

    latents: int  # of the clip
    rows: int  # cells
    columns: int
    ratios: Ratios
    why: str
    slabs: tuple[Slab, ...]  # empty: the clip is decoded whole
    halo: int  # cells of context around a tile, beyond its ramp
    ramp: int  # pixels over which neighbouring tiles are blended
    bytes_estimated: int  # of the largest decode: a tile of a slab, or the whole clip
    whole_bytes: int  # of the whole clip
    memory_budget: int

    @property
    def tiled(self) -> bool:
        """Whether the clip is cut at all."""
        return bool(self.slabs)

    @property
    def grid(self) -> tuple[int, int, int]:
        """(slabs, rows of tiles, columns of tiles); 1, 1, 1 for a whole decode."""
        if not self.slabs:
            return 1, 1, 1
        tiles = self.slabs[0].tiles
        return len(self.slabs), len({tile.y for tile in tiles}), len({tile.x for tile in tiles})

    @property
    def largest(self) -> tuple[int, int, int]:
        """(latents, rows, columns) of the largest decode, context included, in cells."""
        return _largest(self.slabs) if self.slabs else (self.latents, self.rows, self.columns)

    def __str__(self) -> str:
        clip = self._size(self.latents, self.rows, self.columns)
        needs = f"{self.bytes_estimated / _GIB:.2f} of {self.memory_budget / _GIB:.2f} GiB"
        if not self.slabs:
            return f"{clip} decoded whole: {self.why} ({needs})"
        slabs, rows, columns = self.grid
        return (
            f"{clip} decoded in {slabs} slabs of {rows} x {columns} tiles of at most "
            f"{self._size(*self.largest)}, halo {self.halo} cells, ramp {self.ramp} pixels: {self.why} "
            f"({needs}; the whole would need {self.whole_bytes / _GIB:.2f} GiB)"
        )

    def _size(self, latents: int, rows: int, columns: int) -> str:
        space = self.ratios.space
        return f"{frames_of(latents, self.ratios)} frames of {columns * space}x{rows * space} pixels"


def plan_decode(
    size: tuple[int, int, int],
    *,
    tiling: Tiling | None,
    ratios: Ratios,
    bytes_per_cell: int,
    memory_budget: int,
    off: str = "tiling is off",
) -> DecodePlan:
    """Decide for a clip of ``size`` (latents, rows, columns); ``tiling`` None: whole, because of ``off``.

    Raises ConfigError where not even the smallest tile fits ``memory_budget`` (bytes).
    """
    latents, rows, columns = size
    whole = latents * rows * columns * bytes_per_cell
    slabs: tuple[Slab, ...] = ()
    halo = ramp = 0
    if tiling is None:
        why = off
    elif whole > memory_budget or (tiling.tile_size and max(rows, columns) * ratios.space > tiling.tile_size):
        too_large = whole > memory_budget
        why = "the whole is more than memory_budget" if too_large else "the frame is larger than tile_size"
        halo, ramp = tiling.halo_and_ramp(ratios.space)
        slabs = _slabs(size, tiling, ratios, bytes_per_cell, memory_budget)
    else:
        why = "it fits memory_budget"
    largest = _largest(slabs) if slabs else size
    return DecodePlan(
        latents=latents,
        rows=rows,
        columns=columns,
        ratios=ratios,
        why=why,
        slabs=slabs,
        halo=halo,
        ramp=ramp,
        bytes_estimated=largest[0] * largest[1] * largest[2] * bytes_per_cell,
        whole_bytes=whole,
        memory_budget=memory_budget,
    )


def _slabs(
    size: tuple[int, int, int], tiling: Tiling, ratios: Ratios, bytes_per_cell: int, memory_budget: int
) -> tuple[Slab, ...]:
    """Tiles and slabs within both bounds: the tile size, where there is one, and the budget."""
    halo, ramp = tiling.halo_and_ramp(ratios.space)
    settings = TileSettings(
        halo=halo,
        temporal_halo=_DEFAULTS.temporal_halo,
        ramp=ramp,
        ramp_frames=_DEFAULTS.ramp_frames,
        tile_size=tiling.tile_size,
        slab_frames=_DEFAULTS.slab_frames,
        tile_bytes=memory_budget,
        bytes_per_cell=bytes_per_cell,
    )
    try:
        return plan_slabs(frames_of(size[0], ratios), *size, settings, ratios)
    except ConfigError as error:
        raise ConfigError(
            f"memory_budget must hold one tile of this clip at {bytes_per_cell} bytes a latent cell, got "
            f"{memory_budget} bytes: raise it, or lower the overlap with enable_tiling(tile_size, overlap)"
        ) from error


def _largest(slabs: tuple[Slab, ...]) -> tuple[int, int, int]:
    """(latents, rows, columns) of the largest tile, context included."""
    tiles = slabs[0].tiles
    return (
        max(slab.t.in_stop - slab.t.in_start for slab in slabs),
        max(tile.y.in_stop - tile.y.in_start for tile in tiles),
        max(tile.x.in_stop - tile.x.in_start for tile in tiles),
    )

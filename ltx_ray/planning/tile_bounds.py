"""What the sides of a tile must hold, its ramps and its context: one rule for all that cut frames."""

from ltx_ray.config import DecodingConfig
from ltx_ray.errors import ConfigError
from ltx_ray.planning.geometry import Ratios, ceil_div


def overlap_to_halo_and_ramp(overlap: int, ratio: int) -> tuple[int, int]:
    """``(halo in cells, ramp in pixels)`` of tiles of which two neighbours decode ``overlap`` pixels both.

    Half of the overlap is the ramp over which they are blended (an even number of pixels), the rest is
    context that lies half on either side of it. Tiles decode whole cells of ``ratio`` pixels, so what they
    really share is the overlap rounded up to a multiple of 2 x ``ratio``. Raises ConfigError for a negative
    overlap.
    """
    if overlap < 0:
        raise ConfigError(f"the overlap of two tiles must be 0 pixels or more, got {overlap}")
    ramp = overlap // 4 * 2
    extend = ceil_div(overlap, 2 * ratio)
    return extend - ceil_div(ramp // 2, ratio), ramp


def halo_and_ramp(config: DecodingConfig, ratio: int) -> tuple[int, int]:
    """``(halo in cells, ramp in pixels)`` of ``config``, by its ``tile_overlap`` where it has one."""
    if config.tile_overlap is None:
        return config.halo, config.ramp
    return overlap_to_halo_and_ramp(config.tile_overlap, ratio)


def smallest_tile_size(halo: int, ramp: int, ratio: int) -> int:
    """Pixels within which a tile between two neighbours stays in any frame: its core, ramps and halos."""
    least = max(ceil_div(ramp, ratio), 1)
    # Cores of a balanced cut are almost up to twice as long as the least length that holds two ramps.
    return (2 * (halo + ceil_div(ramp // 2, ratio)) + 2 * least - 1) * ratio


def check_tile_size(tile_size: int, halo: int, ramp: int, ratio: int, *, name: str, given: str) -> None:
    """Raises ConfigError where not every frame can be cut into tiles of at most ``tile_size`` pixels.

    ``name`` is what the bound is called, and ``given`` says where halo and ramp come from.
    """
    least = smallest_tile_size(halo, ramp, ratio)
    if tile_size < least:
        raise ConfigError(
            f"{name} must be at least {least} pixels to hold its overlap, got {tile_size} with {given}: "
            f"raise {name} or lower the overlap"
        )


def check_tiles(config: DecodingConfig, ratios: Ratios) -> None:
    """Raises ConfigError where no tile within ``decoding.tile_size`` can hold its ramps and its context."""
    if config.tile_size is None:
        return
    given = f"decoding.tile_overlap {config.tile_overlap}"
    if config.tile_overlap is None:
        given = f"decoding.halo {config.halo} and decoding.ramp {config.ramp}"
    halo, ramp = halo_and_ramp(config, ratios.space)
    check_tile_size(config.tile_size, halo, ramp, ratios.space, name="decoding.tile_size", given=given)

"""The figures of a video by their names: the columns of tables, of JSON and of the output manifest.

This list is all that the manifest has to know; nothing here is heavy to import.
"""

from dataclasses import dataclass
from typing import Literal

Value = float | int | bool


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure."""

    name: str
    kind: Literal["number", "count", "truth"]
    meaning: str  # with its unit, or its range, in few words


FIGURES: tuple[Figure, ...] = (
    Figure("sync_offset_ms", "number", "median of picture less sound in ms; above 0 the picture is late"),
    Figure("sync_absolute_ms", "number", "median absolute offset in ms"),
    Figure("sync_p95_ms", "number", "95th percentile of the absolute offsets in ms"),
    Figure("sync_spread_ms", "number", "standard deviation of the offsets in ms"),
    Figure("sync_matched", "count", "onsets of the sound that the picture shows within 250 ms"),
    Figure("sync_missed", "count", "onsets of the sound that it does not show"),
    Figure("sync_extra", "count", "onsets of the picture that the sound does not have"),
    Figure("sync_correlation", "number", "largest correlation of both onset curves within 1 s, -1 to 1"),
    Figure("sync_lag_ms", "number", "lag of that correlation in ms; above 0 the picture is late"),
    Figure("seam_difference", "number", "mean motion-compensated difference at seams over inside chunks"),
    Figure("seam_peak", "number", "largest motion-compensated difference at seams over inside chunks"),
    Figure(
        "seam_edges", "number", "energy of edges left at seams over inside chunks; below 1: ghosts or blur"
    ),
    Figure("seam_step", "number", "change of brightness or colour across seams, as a part of it"),
    Figure("inside_step", "number", "the same inside chunks"),
    Figure(
        "drift_brightness", "number", "change of brightness from the first 2 s to the last, as a part of it"
    ),
    Figure("drift_colour", "number", "largest change of a channel's share of the brightness, likewise"),
    Figure("drift_slope", "number", "change of brightness over the video along the best straight line"),
    Figure("drift_largest", "number", "largest deviation of a second's brightness or colour from the median"),
    Figure("tile_ratio", "number", "gradient energy on tile borders over elsewhere"),
    Figure("black", "number", "part of the frames that are black, 0 to 1"),
    Figure("frozen", "number", "part of the frames that are as the one before, 0 to 1"),
    Figure("frozen_seconds", "number", "longest time without a change, in seconds"),
    Figure("flicker", "number", "amplitude of frame-to-frame alternation, 0 to 1 of full brightness"),
    Figure("world_colour_right", "truth", "the shape has the colour that the prompt names"),
    Figure("world_shape_right", "truth", "it is the shape that the prompt names"),
    Figure("world_direction_right", "truth", "it moves where the prompt says"),
    Figure("world_position_error", "number", "RMS distance from an even way, in short sides of the frame"),
    Figure("world_shape_count", "number", "median number of shapes in a frame"),
    Figure("world_most_shapes", "count", "largest number of shapes in a frame"),
    Figure("world_sharpness", "number", "steepest edges, in contrasts per short side"),
    Figure("world_colour_drift", "number", "largest change of the shape's R, G or B, 0 to 1"),
    Figure("world_seam_jump", "number", "jump of the shape's way at seams, in short sides"),
    Figure("world_inside_jump", "number", "the same inside chunks"),
    Figure(
        "world_direction_kept", "number", "part of the seams after which it moves on in the same direction"
    ),
)
NAMES = tuple(figure.name for figure in FIGURES)

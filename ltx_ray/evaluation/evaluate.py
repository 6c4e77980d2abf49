"""All figures of a video: ``evaluate``. The command, the finish stage and the benchmarks call it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from ltx_ray.evaluation.curves import Curves, measure_curves
from ltx_ray.evaluation.drift import DriftFigures, measure_drift
from ltx_ray.evaluation.figures import NAMES, Value
from ltx_ray.evaluation.flashes import calm_frames
from ltx_ray.evaluation.frames import Pictures, VideoPictures
from ltx_ray.evaluation.liveness import LivenessFigures, measure_liveness
from ltx_ray.evaluation.onsets import RATE, Onsets, picture_onsets, sound_onsets
from ltx_ray.evaluation.seams import SeamFigures, measure_seams
from ltx_ray.evaluation.sync import Sync, measure_sync
from ltx_ray.evaluation.tiles import TileFigures, measure_tiles
from ltx_ray.evaluation.world import Named, WorldFigures, measure_world, parse_prompt
from ltx_ray.evaluation.world_seams import WorldSeamFigures, measure_world_seams
from ltx_ray.evaluation.world_track import Track
from ltx_ray.evaluation.zones import Zones
from ltx_ray.media.audio import read_audio

Sound = tuple[NDArray[np.float32], int]  # samples [channels, n] in -1..1, and their rate
_UNKNOWN = Zones()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured of a video. None: there is nothing to measure it by."""

    sync: Sync | None  # None: no sound
    seams: SeamFigures | None  # None: one chunk, or it is not known where they meet
    drift: DriftFigures | None  # None: too short
    tiles: TileFigures | None  # None: one tile, or it is not known where they meet
    liveness: LivenessFigures
    named: Named | None  # None: the prompt names nothing of the synthetic world
    world: WorldFigures | None
    world_seams: WorldSeamFigures | None
    zones: Zones = field(repr=False)
    curves: Curves = field(repr=False)
    calm: NDArray[np.bool_] = field(repr=False)  # [n] frames that are not within a flash
    sound: Onsets | None = field(repr=False)
    picture: Onsets = field(repr=False)
    track: Track | None = field(repr=False)  # of the world's shape


def evaluate_video(url: str, *, prompt: str | None = None, zones: Zones = _UNKNOWN) -> Evaluation:
    """The figures of a video file (path or fsspec URL).

    ``prompt``: what was asked for; one that names a colour, a shape and a direction of the synthetic world is
    held against the picture. The file is decoded two or three times, as a stream. Raises MediaError where it
    cannot be read.
    """
    pictures = VideoPictures.open(url)
    curves = measure_curves(pictures)
    sound = None
    if pictures.has_sound:
        seconds = float(curves.times[-1]) + 1 / pictures.fps
        sound = read_audio(url, 0.0, seconds, RATE), RATE
    return _evaluate(pictures, curves, sound, prompt, zones)


def evaluate(
    pictures: Pictures, *, sound: Sound | None = None, prompt: str | None = None, zones: Zones = _UNKNOWN
) -> Evaluation:
    """The figures of any ``pictures``, such as ``ArrayPictures``; see ``evaluate_video``."""
    return _evaluate(pictures, measure_curves(pictures), sound, prompt, zones)


def _evaluate(
    pictures: Pictures, curves: Curves, sound: Sound | None, prompt: str | None, zones: Zones
) -> Evaluation:
    calm = calm_frames(curves.brightness, curves.fps)
    heard = None if sound is None else sound_onsets(*sound)
    shown = picture_onsets(curves.brightness, curves.fps)
    named = parse_prompt(prompt) if prompt else None
    world, track = measure_world(pictures) if named else (None, None)
    world_seams = None
    if world and track and world.radius and zones.seams:
        world_seams = measure_world_seams(track, world.radius, zones.seams)
    return Evaluation(
        sync=None if heard is None else measure_sync(heard, shown),
        seams=measure_seams(curves, calm, zones.seams or ()),
        drift=measure_drift(curves, calm),
        tiles=measure_tiles(pictures, len(curves), zones.columns or (), zones.rows or ()),
        liveness=measure_liveness(curves),
        named=named,
        world=world,
        world_seams=world_seams,
        zones=zones,
        curves=curves,
        calm=calm,
        sound=heard,
        picture=shown,
        track=track,
    )


def figures(evaluation: Evaluation) -> dict[str, Value]:
    """The figures that could be measured, by the names of ``FIGURES``, in their order."""
    found: dict[str, Value | None] = {}
    if evaluation.sync:
        found |= {f"sync_{name}": value for name, value in asdict(evaluation.sync).items()}
    if seams := evaluation.seams:
        found |= {"seam_difference": seams.difference, "seam_peak": seams.peak, "seam_edges": seams.edges}
        found |= {"seam_step": seams.step, "inside_step": seams.inside_step}
    if evaluation.drift:
        found |= {f"drift_{name}": value for name, value in asdict(evaluation.drift).items()}
    if evaluation.tiles:
        found["tile_ratio"] = evaluation.tiles.ratio
    found |= asdict(evaluation.liveness)
    if evaluation.world and evaluation.named:
        found |= _world(evaluation.world, evaluation.named)
    if jumps := evaluation.world_seams:
        found["world_seam_jump"] = _mean(jumps.seam_jumps)
        found["world_inside_jump"] = _mean(jumps.inside_jumps)
        found["world_direction_kept"] = _mean(jumps.directions_kept)
    known = {name: value for name in NAMES if (value := found.get(name)) is not None}
    return {name: value for name, value in known.items() if math.isfinite(value)}


def _world(world: WorldFigures, named: Named) -> dict[str, Value | None]:
    return {
        "world_colour_right": world.colour == named.colour,
        "world_shape_right": world.shape == named.shape,
        "world_direction_right": world.direction == named.direction,
        "world_position_error": world.position_error,
        "world_shape_count": world.shape_count,
        "world_most_shapes": world.most_shapes,
        "world_sharpness": world.sharpness,
        "world_colour_drift": world.colour_drift,
    }


def _mean(values: Sequence[float] | Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None

"""From a shot to its graph of tasks: the one place where it is decided what has to be done for a video."""

from dataclasses import dataclass

from ltx_ray.planning.chunks import ChunkSettings, plan_chunks
from ltx_ray.planning.geometry import Ratios, frame_for
from ltx_ray.planning.tiles import TileSettings, plan_slabs
from ltx_ray.types import Chunk, Frame, Need, Shot, ShotPlan, Slab, Stage, Task, TaskKey, Tile

CONDITION = TaskKey(Stage.CONDITION)
FINISH = TaskKey(Stage.FINISH)
BODY, TAIL = 0, 1  # the two parts of a decoded tile


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """What planning has to know of the config and of the model."""

    chunks: ChunkSettings
    tiles: TileSettings
    ratios: Ratios
    num_inference_steps: int  # of shots that name none
    guidance_scale: float
    audio_guidance_scale: float
    hears: bool  # whether the model has an audio adapter


def plan_shot(shot: Shot, settings: PlanSettings) -> ShotPlan:
    """The chunks, slabs, tiles and tasks of ``shot``.

    Raises UserError or ConfigError where the shot's size cannot be planned.
    """
    frame = frame_for(shot.num_frames, shot.width, shot.height, settings.ratios)
    chunks = plan_chunks(shot, frame.latents, _chunk_settings(shot, settings.chunks), settings.ratios)
    slabs = plan_slabs(
        shot.num_frames, frame.latents, frame.rows, frame.columns, settings.tiles, settings.ratios
    )
    tasks = [Task(key=CONDITION, needs=(), work=None, cost=1.0)]
    tasks += [_denoise(shot, frame, chunk, settings) for chunk in chunks]
    for slab in slabs:
        tasks += [_decode(chunks, slab, tile) for tile in slab.tiles]
        tasks.append(_assemble(slabs, slab, frame))
    segments = tuple(Need(TaskKey(Stage.ASSEMBLE, slab.index)) for slab in slabs)
    tasks.append(Task(key=FINISH, needs=segments, work=None, cost=float(shot.num_frames)))
    return ShotPlan(shot=shot, frame=frame, chunks=chunks, slabs=slabs, tasks=tuple(tasks))


def _denoise(shot: Shot, frame: Frame, chunk: Chunk, settings: PlanSettings) -> Task:
    needs = [Need(CONDITION)]
    if chunk.index:
        needs.append(Need(TaskKey(Stage.DENOISE, chunk.index - 1)))
    passes = _passes(shot, settings)
    tokens = (chunk.length + chunk.tail) * frame.rows * frame.columns
    cost = tokens * passes * (shot.num_inference_steps or settings.num_inference_steps)
    return Task(key=TaskKey(Stage.DENOISE, chunk.index), needs=tuple(needs), work=chunk, cost=float(cost))


def _chunk_settings(shot: Shot, settings: ChunkSettings) -> ChunkSettings:
    """The run's, where the shot does not say otherwise."""
    return ChunkSettings(
        chunk_size=settings.chunk_size if shot.chunk_size is None else shot.chunk_size,
        overlap_frames=settings.overlap_frames if shot.overlap_frames is None else shot.overlap_frames,
    )


def _passes(shot: Shot, settings: PlanSettings) -> int:
    """Passes of the transformer in each step: one, and one for each guidance that acts."""
    text = settings.guidance_scale if shot.guidance_scale is None else shot.guidance_scale
    audio = settings.audio_guidance_scale if shot.audio_guidance_scale is None else shot.audio_guidance_scale
    return 1 + (text != 1) + (audio != 1 and settings.hears and shot.audio is not None)


def _decode(chunks: tuple[Chunk, ...], slab: Slab, tile: Tile) -> Task:
    needed = [c for c in chunks if c.final_start < slab.t.in_stop and c.final_stop > slab.t.in_start]
    cells = (
        (slab.t.in_stop - slab.t.in_start)
        * (tile.y.in_stop - tile.y.in_start)
        * (tile.x.in_stop - tile.x.in_start)
    )
    return Task(
        key=TaskKey(Stage.DECODE, slab.index, tile.index),
        needs=tuple(Need(TaskKey(Stage.DENOISE, chunk.index)) for chunk in needed),
        work=(slab, tile),
        cost=float(cells),
        made_bytes=decoded_bytes(slab, tile),
    )


def decoded_bytes(slab: Slab, tile: Tile) -> int:
    """Bytes of a decoded tile, 8-bit RGB, ramps and tail included."""
    return slab.t.size * tile.y.size * tile.x.size * 3


def _assemble(slabs: tuple[Slab, ...], slab: Slab, frame: Frame) -> Task:
    needs = [Need(TaskKey(Stage.DECODE, slab.index, tile.index), BODY) for tile in slab.tiles]
    if slab.index:
        before = slabs[slab.index - 1]
        needs += [Need(TaskKey(Stage.DECODE, before.index, tile.index), TAIL) for tile in before.tiles]
    return Task(
        key=TaskKey(Stage.ASSEMBLE, slab.index),
        needs=tuple(needs),
        work=slab,
        cost=float(slab.num_frames * frame.width * frame.height),
    )

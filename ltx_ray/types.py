"""The nouns: what a row becomes, and what the stages hand on.

    manifest row -> Shot -> ShotPlan(shot, tasks)        planned once, in ltx_ray/planning/plan.py

All are frozen dataclasses with slots, checked where they are made. Units are part of the names or stand
in the field's comment: frames are pixel frames, latents are latent frames, cells are latent cells in
space (32 pixels for LTX), seconds are seconds of the video unless said otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """The five stages, in the order in which a shot's data flows through them."""

    CONDITION = "condition"
    DENOISE = "denoise"
    DECODE = "decode"
    ASSEMBLE = "assemble"
    FINISH = "finish"

    __hash__ = str.__hash__  # as it equals its value; and Enum's own is slow in keys


class Status(StrEnum):
    """How a shot can end; every manifest row has exactly one current row with one of these."""

    DONE = "done"
    FAILED = "failed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class PromptSpan:
    """A prompt and the second of the video from which it holds."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What to render: one manifest row, validated, with all defaults filled in."""

    id: str  # letters, digits, '.', '_', '-'; at most 100 characters; unique in the manifest
    prompts: tuple[PromptSpan, ...]  # at least one, the first at 0 s, strictly increasing
    negative_prompt: str
    num_frames: int  # frames that are written
    fps: float  # frames per second
    width: int  # pixels that are written, even
    height: int  # pixels that are written, even
    seed: int  # 0 <= seed < 2**53
    num_inference_steps: int | None  # None: the preset's
    guidance_scale: float | None  # None: the preset's
    audio_guidance_scale: float | None  # None: the run's; acts where the shot has audio
    coherence_guidance: float | None  # None: the run's
    chunk_size: int | None  # frames; None: the run's
    overlap_frames: int | None  # None: the run's
    audio: str | None  # URL or absolute path of a file with sound
    audio_start_s: float  # second of the audio file at which the video starts
    image: str | None  # URL or absolute path of the first frame's image
    priority: int  # higher goes first
    tags: tuple[str, ...]
    row: int  # 1-based row number in the manifest, for messages
    input: str  # the row as it came, unknown columns too, as a JSON object
    fingerprint: str  # hash of every field that decides the video's content

    @property
    def seconds(self) -> float:
        """Length of the written video in seconds."""
        return self.num_frames / self.fps


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One window of one shot, in latent frames: [start, start + length)."""

    index: int
    start: int  # first latent of the window
    length: int  # latents in the window
    overlap: int  # latents shared with the window before (0 for the first, else >= 1)
    tail: int  # latents of the window before that condition this one (0: none)
    next_overlap: int  # latents that the window after shares with this one (0 for the last)
    next_tail: int  # latents of this window that condition the one after (0: none)
    seed: int  # seed of this window's noise
    prompt: int  # index into Shot.prompts: the text current at the middle of the new frames
    start_s: float  # seconds of the video, and so of its audio, that the window covers
    stop_s: float

    @property
    def stop(self) -> int:
        """One past the window's last latent."""
        return self.start + self.length

    @property
    def final_start(self) -> int:
        """First latent that is final only with this chunk (the first of a later window is dropped)."""
        return self.start + min(self.overlap, 1)

    @property
    def final_stop(self) -> int:
        """One past the last latent that no later chunk changes any more."""
        return self.stop - max(self.next_overlap - 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """One axis of a tile: which latents are decoded, and which pixels (or frames) come of it.

    The decoded block [in_start, in_stop) carries a halo. Of its pixels, [out_start, out_stop) are used;
    the first ``ramp_in`` and the last ``ramp_out`` of these are shared with the neighbour and blended.
    ``crop`` is the index of ``out_start`` in the decoded block's own pixels.
    """

    in_start: int
    in_stop: int
    out_start: int
    out_stop: int
    ramp_in: int
    ramp_out: int
    crop: int

    @property
    def size(self) -> int:
        """Pixels (or frames) that are used."""
        return self.out_stop - self.out_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A spatial part of a slab."""

    index: int
    y: Interval
    x: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """A run of final latent frames that is decoded and encoded together.

    It writes the frames [t.out_start, t.out_stop - t.ramp_out), cut to the shot's length; the frames of
    its ``ramp_out`` are finished by the slab after, which gets them as the *tails* of this slab's tiles.
    """

    index: int
    t: Interval
    tiles: tuple[Tile, ...]
    first_frame: int  # of the written segment
    num_frames: int  # in the written segment


@dataclass(frozen=True, slots=True, order=True)
class TaskKey:
    """Names a task within its shot: stage, index (chunk or slab), and tile within the slab."""

    stage: Stage
    index: int = 0
    tile: int = 0

    def __str__(self) -> str:
        suffix = f"-{self.tile:03d}" if self.stage is Stage.DECODE else ""
        return f"{self.stage}-{self.index:04d}{suffix}"

    @classmethod
    def parse(cls, text: str) -> "TaskKey":
        """The key that ``str(key)`` named."""
        stage, index, *tile = text.split("-")
        return cls(Stage(stage), int(index), int(tile[0]) if tile else 0)


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """One part of what a task makes. Decoded tiles have two: 0, the body, and 1, the tail."""

    key: TaskKey
    part: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A node of the shot's graph: chunk order is a need like any other, not a convention."""

    key: TaskKey
    needs: tuple[Need, ...]
    work: Chunk | tuple[Slab, Tile] | Slab | None  # what the stage has to know; None: the shot is enough
    cost: float  # relative work, in the stage's own unit (tokens x steps, decoded cells, frames)
    made_bytes: int = 0  # decoded pixels that are held in memory until they are assembled


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the model makes; what was asked is cut out of it: the start in time, the centre in space."""

    frames: int  # 8k + 1, at least the frames that are written
    width: int  # pixels, a multiple of the VAE's spatial ratio
    height: int
    crop_left: int  # pixels that are cut off at the left and at the top
    crop_top: int
    latents: int  # latent frames
    rows: int  # latent cells
    columns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotPlan:
    """A shot as a graph of tasks. Tasks stand in an order in which every need comes before its user."""

    shot: Shot
    frame: Frame
    chunks: tuple[Chunk, ...]
    slabs: tuple[Slab, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """What a task made, as a durable file under OUT. A payload in memory is only a cache of one."""

    name: str  # path relative to OUT, never reused by another attempt
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a task tells the coordinator: never a tensor."""

    shot_id: str
    key: TaskKey
    attempt: int  # 1 for the first try of the task in this epoch
    seconds: float  # wall seconds of the work itself
    cpu_seconds: float  # processor seconds of the work itself
    peak_bytes: int  # peak memory: of the device on a GPU, else of the process
    held_bytes: int  # resident memory of the process once the work was done
    node: str
    device: str  # "cpu", or the GPU's name
    pid: int
    artefact: Artefact | None = None  # None where the result lives in memory only (tiles)
    facts: Mapping[str, Any] = field(default_factory=dict)  # small and JSON-able, such as num_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A task on its way to an actor: everything it needs, except its payloads."""

    shot: Shot
    task: Task
    frame: Frame
    attempt: int
    output: str  # name under OUT for the durable result, unique to this attempt
    first_latent: int = 0  # decode: the shot's latent at which the given chunks begin
    segment_frames: tuple[int, ...] = ()  # finish: frames in each segment
    halvings: int = 0  # decode: so often the tile is halved, for want of memory
    adapted: tuple[str, ...] = ()  # assemble: what was done otherwise than planned for its tiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkResult:
    """A chunk as the output manifest lists it."""

    index: int
    start_frame: int
    num_frames: int
    seed: int
    seconds: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotResult:
    """How a shot ended: one row of the output manifest (ltx_ray/manifest/schema.py declares its columns)."""

    id: str
    generation: int  # 1, and one more for each time the shot was rendered anew
    status: Status
    row: int
    fingerprint: str
    input: str
    error_kind: str | None = None
    error: str | None = None
    attempts: int = 0  # tries of tasks that failed, plus one
    adapted: tuple[str, ...] = ()  # what was done otherwise than planned, with ``reproducible = false``
    file_name: str | None = None  # relative to OUT
    sha256: str | None = None
    bytes: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    seed: int | None = None
    chunks: tuple[ChunkResult, ...] = ()
    model: str | None = None
    model_hash: str | None = None
    config_hash: str | None = None
    version: str | None = None
    queued_at: float | None = None  # seconds since the epoch, UTC
    started_at: float | None = None
    finished_at: float | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    device: str | None = None  # of the denoise stage
    node: str | None = None  # of the denoise stage
    # Figures by the names of ltx_ray/evaluation/figures.py, those that could be measured; each is a column.
    evaluation: Mapping[str, float | int | bool] = field(default_factory=dict)
    evaluation_error: str | None = None  # why the finished video could not be measured

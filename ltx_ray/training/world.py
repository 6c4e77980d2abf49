"""The synthetic world: a coloured shape moves over a background and flashes on the beats of a sound.

A ``Scene`` is everything there is to know of one clip: what it looks like at any time, size and length, and
when it sounds. It is a function of a seed and a split alone. Pictures are made by ``world_picture``, sounds
by ``world_sound``, prompts by ``world_prompts``; all of them read the scene and nothing else.

Lengths in a scene are in units of the frame's short side, so that one scene can be shown at any size. Motion
never ends: what leaves on one side enters on the other.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from ltx_ray.errors import UserError

# Another one wherever a seed makes another scene, picture, sound or prompt.
VERSION = 2

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "green": (0.10, 0.75, 0.18),
    "blue": (0.12, 0.25, 0.95),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.65, 0.15, 0.80),
    "cyan": (0.10, 0.80, 0.85),
}
SHAPES = ("circle", "square", "triangle")
# Unit steps in x (to the right) and y (downwards).
DIRECTIONS: dict[str, tuple[int, int]] = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS: dict[str, tuple[float, float]] = {"slowly": (0.16, 0.28), "quickly": (0.40, 0.58)}  # per second
BACKGROUNDS: dict[str, tuple[float, float]] = {"dark": (0.04, 0.20), "bright": (0.30, 0.48)}  # grey levels
SOUNDS = ("beep", "click", "clap")

# Seconds in which a flash falls to 1/e.
FLASH_SECONDS = 0.11
# Seconds between beats.
_GAPS = (0.45, 1.4)
# Room between a shape's leaving and its entering again, in radii.
_PERIOD_RADII = 2.4
_SILENT = 0.15  # part of the scenes without a beat

Split = Literal["train", "held_out"]
# Streams of random numbers: a held-out scene shares no number with any that is trained on.
_STREAMS: dict[Split, int] = {"train": 0, "held_out": 1}


def _held_out(colour: int, shape: int, direction: int) -> bool:
    """Two directions of each colour and shape's pair in six: each colour, shape and direction is held out
    equally often, and the others of each are trained on."""
    return (colour + 2 * shape + direction) % 6 == 0


TRIPLES: dict[Split, tuple[tuple[str, str, str], ...]] = {
    split: tuple(
        (c, s, d)
        for (i, c), (j, s), (k, d) in product(enumerate(COLOURS), enumerate(SHAPES), enumerate(DIRECTIONS))
        if _held_out(i, j, k) == (split == "held_out")
    )
    for split in _STREAMS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The truth about one clip."""

    seed: int
    split: Split
    colour: str  # of COLOURS
    shape: str  # of SHAPES
    direction: str  # of DIRECTIONS
    speed: float  # short sides per second
    radius: float  # short sides
    phase: float  # 0..1, where on its way the shape starts
    lane: float  # 0..1, where across its way it moves
    background: tuple[tuple[float, float, float], tuple[float, float, float]]  # RGB 0..1 at both ends
    vertical: bool  # the background's gradient runs downwards, else to the right
    sound: str | None  # of SOUNDS; None: nothing sounds and nothing flashes
    onsets: tuple[float, ...]  # seconds, rising

    def __post_init__(self) -> None:
        for name, value, known in (
            ("colour", self.colour, COLOURS),
            ("shape", self.shape, SHAPES),
            ("direction", self.direction, DIRECTIONS),
        ):
            if value not in known:
                raise UserError(f"a scene's {name} must be one of {', '.join(known)}, got {value!r}")

    def positions(self, times: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
        """Centres [n, 2] (x, y) in pixels at ``times`` [n] in seconds. A centre outside the frame is that of
        a shape that leaves; the same shape is one ``period`` away."""
        side = min(height, width)
        radius = self.radius * side
        step = np.array(DIRECTIONS[self.direction], dtype=np.float64)
        extent = np.array([width, height], dtype=np.float64)
        period = self.period(height, width)
        along = np.abs(step)
        start = along * (self.phase * period - _PERIOD_RADII / 2 * radius) + (1 - along) * self.lane * extent
        path = start + step * self.speed * side * np.asarray(times, dtype=np.float64)[:, None]
        low = -_PERIOD_RADII / 2 * radius
        return np.where(along > 0, np.mod(path - low, period) + low, path)

    def period(self, height: int, width: int) -> npt.NDArray[np.float64]:
        """Pixels (x, y) after which the picture repeats along the way."""
        return np.array([width, height]) + _PERIOD_RADII * self.radius * min(height, width)

    def flash(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Brightness [n] of the flash, 0..1, at ``times`` [n] in seconds: 1 at an onset, then falling."""
        level = np.zeros(len(times))
        for onset in self.onsets:
            since = np.asarray(times) - onset
            level = np.maximum(
                level, np.where(since >= -1e-9, np.exp(-np.maximum(since, 0) / FLASH_SECONDS), 0)
            )
        return level


def scene(seed: int, seconds: float, split: Split = "train") -> Scene:
    """The scene number ``seed`` of a split, with beats for ``seconds``.

    The same seed at a greater length is the same scene with more beats.
    """
    draw = np.random.default_rng([_STREAMS[split], seed])
    colour, shape, direction = TRIPLES[split][draw.integers(len(TRIPLES[split]))]
    low, high = list(SPEEDS.values())[draw.integers(len(SPEEDS))]
    grey_low, grey_high = list(BACKGROUNDS.values())[draw.integers(len(BACKGROUNDS))]
    tones = draw.uniform(grey_low, grey_high, (2, 1)) + draw.uniform(-0.05, 0.05, (2, 3))
    first, last = (tuple(float(level) for level in tone) for tone in np.clip(tones, 0.02, 0.5))
    made = Scene(
        seed=seed,
        split=split,
        colour=colour,
        shape=shape,
        direction=direction,
        speed=float(draw.uniform(low, high)),
        radius=float(draw.uniform(0.17, 0.24)),
        phase=float(draw.uniform()),
        lane=float(draw.uniform(0.25, 0.75)),
        background=(first, last),  # type: ignore[arg-type]
        vertical=bool(draw.integers(2)),
        sound=None if draw.uniform() < _SILENT else SOUNDS[draw.integers(len(SOUNDS))],
        onsets=(),
    )
    return made if made.sound is None else replace(made, onsets=beats(draw, seconds))


def pair(each: Scene) -> tuple[Scene, Scene]:
    """``each`` in two shapes that its split has in its colour and direction, alike in all else. Circle and
    square, which differ least, are a pair oftenest."""
    found = [s for s in SHAPES if (each.colour, s, each.direction) in TRIPLES[each.split]]
    first = int(each.seed % 3 == 2) if len(found) == 3 else 0
    one, other = (replace(each, shape=shape) for shape in found[first : first + 2])
    return one, other


def beats(draw: np.random.Generator, seconds: float) -> tuple[float, ...]:
    """Onsets in [0, seconds), in seconds, with gaps between which each flash ends."""
    found: list[float] = []
    time = float(draw.uniform(0, _GAPS[1]))
    while time < seconds:
        found.append(time)
        time += float(draw.uniform(*_GAPS))
    return tuple(found)

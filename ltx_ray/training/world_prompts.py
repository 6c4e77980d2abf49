"""Prompts of the synthetic world: what a scene is called.

Held-out prompts use wordings that no training prompt has, about colour, shape and direction triples that no
training scene has.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from ltx_ray.training.world import BACKGROUNDS, SPEEDS, TRIPLES, Scene, Split

# {speed} is "" or " slowly" or " quickly", {place} is "" or " over a dark background" and so on.
_WORDINGS: dict[Split, tuple[str, ...]] = {
    "train": (
        "a {colour} {shape} moving {direction}{speed}{place}",
        "{colour} {shape} moving {direction}{speed}{place}",
        "a video of a {colour} {shape} that is moving {direction}{speed}{place}",
        "A {colour} {shape} moves {direction}{speed}{place}.",
    ),
    "held_out": (
        "a video of a {colour} {shape} moving {direction}{speed}{place}",
        "A {colour} {shape} that moves {direction}{speed}{place}.",
    ),
}
_STREAM = 0x90
_SPOKEN = 0.5  # part of the prompts that say the speed, and of those that say the background


def prompt(scene: Scene) -> str:
    """The prompt of a scene: a function of its seed and split. It says colour, shape and direction always,
    speed and background half of the time."""
    draw = np.random.default_rng([_STREAM, int(scene.split == "held_out"), scene.seed])
    wordings = _WORDINGS[scene.split]
    wording = wordings[draw.integers(len(wordings))]
    speed = _speed(scene) if draw.uniform() < _SPOKEN else None
    place = _place(scene) if draw.uniform() < _SPOKEN else None
    return _filled(wording, (scene.colour, scene.shape, scene.direction), speed, place)


def prompts(split: Split) -> Iterator[str]:
    """Every prompt that scenes of a split can have, in a fixed order."""
    choices = product(_WORDINGS[split], TRIPLES[split], (None, *SPEEDS), (None, *BACKGROUNDS))
    for wording, triple, speed, place in choices:
        yield _filled(wording, triple, speed, place)


def _filled(wording: str, triple: tuple[str, str, str], speed: str | None, place: str | None) -> str:
    colour, shape, direction = triple
    return wording.format(
        colour=colour,
        shape=shape,
        direction=direction,
        speed=f" {speed}" if speed else "",
        place=f" over a {place} background" if place else "",
    )


def _speed(scene: Scene) -> str:
    return next(word for word, (low, high) in SPEEDS.items() if low <= scene.speed <= high)


def _place(scene: Scene) -> str:
    level = float(np.mean(scene.background))
    return min(BACKGROUNDS, key=lambda word: abs(level - sum(BACKGROUNDS[word]) / 2))

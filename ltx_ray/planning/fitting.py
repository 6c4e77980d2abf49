"""A profile from what earlier shots took: least squares with coefficients that cannot be negative.

The error of each sample is taken relative to it, so that short shots count as much as long ones. A stage
gets no more terms than the samples ask for: where all shots have one size, a rate says all that is known.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ltx_ray.errors import UserError
from ltx_ray.planning.timing import Profile, StageTime, tokens
from ltx_ray.types import ShotPlan, Stage

_TERMS = ("base", "rate", "quadratic")
# Which terms may explain a stage, the simplest first; what has no cost but 1, one a shot, has a base only.
_CHOICES: dict[Stage, tuple[tuple[int, ...], ...]] = {
    Stage.CONDITION: ((0,),),
    Stage.DENOISE: ((1,), (0, 1), (1, 2), (0, 1, 2)),
    Stage.DECODE: ((1,), (0, 1)),
    Stage.ASSEMBLE: ((1,), (0, 1)),
    Stage.FINISH: ((0,), (0, 1)),
}
_WORTH = 0.95  # a further term has to bring the squared error below this part of what it was
_OUTLIERS = 4.0  # residuals beyond so many median ones are left out: a try beside others, a shot resumed
_NOISE = 0.02  # smaller errors are taken for none

Vector = NDArray[np.float64]


@dataclass(slots=True)
class Samples:
    """What tasks of one stage took: sums over so many of them each."""

    features: list[tuple[float, float, float]] = field(default_factory=list)  # tasks, cost, cost x tokens
    seconds: list[float] = field(default_factory=list)

    def add(self, features: tuple[float, float, float], seconds: float) -> None:
        """Take in one sample. What took no time was not measured."""
        if seconds > 0:
            self.features.append(features)
            self.seconds.append(seconds)


@dataclass(frozen=True, slots=True)
class Took:
    """What one finished shot took, in seconds."""

    plan: ShotPlan
    chunks: Mapping[int, float]  # by their index
    stages: Mapping[Stage, float]  # sums over all tasks of a stage


def collect(finished: Iterable[Took]) -> dict[Stage, Samples]:
    """What there is to learn: of each chunk by itself, of other stages the sum over a shot's tasks."""
    found = {stage: Samples() for stage in Stage}
    for took in finished:
        sums = {stage: np.zeros(3) for stage in Stage}
        for task in took.plan.tasks:
            stage = task.key.stage
            features = (1.0, task.cost, task.cost * tokens(task, took.plan.frame))
            sums[stage] += features
            if stage is Stage.DENOISE:
                found[stage].add(features, took.chunks.get(task.key.index, 0.0))
        for stage in Stage:
            if stage is not Stage.DENOISE:
                number, cost, square = sums[stage].tolist()
                found[stage].add((number, cost, square), took.stages.get(stage, 0.0))
    return found


def fit(samples: dict[Stage, Samples], device: str, model: str) -> Profile:
    """The profile that fits best. Raises UserError where a stage has no sample."""
    if missing := [stage.value for stage in Stage if not samples[stage].seconds]:
        raise UserError(
            f"a profile wants shots that were finished at the first try, got none for {', '.join(missing)}: "
            "render a few, of different lengths and sizes"
        )
    return Profile(
        device=device, model=model, stages={stage: fit_stage(stage, samples[stage]) for stage in Stage}
    )


def fit_stage(stage: Stage, samples: Samples) -> StageTime:
    """The time of one stage."""
    features, seconds = np.array(samples.features), np.array(samples.seconds)
    found = _simplest(features, seconds, _CHOICES[stage])
    off = np.abs(features @ found / seconds - 1)
    kept = off <= max(_OUTLIERS * float(np.median(off)), _NOISE)
    if not kept.all():
        found = _simplest(features[kept], seconds[kept], _CHOICES[stage])
    error = float(np.median(np.abs(features @ found / seconds - 1)))
    return StageTime(**dict(zip(_TERMS, found.tolist(), strict=True)), error=error, samples=len(seconds))


def _simplest(features: Vector, seconds: Vector, choices: Sequence[tuple[int, ...]]) -> Vector:
    """The coefficients of the simplest choice of terms that no other is much better than."""
    best, least = np.zeros(3), np.inf
    for choice in choices:
        found = np.zeros(3)
        # Each sample over what it took; each column over its mean, for the numbers differ by powers of ten.
        columns = features[:, list(choice)] / seconds[:, None]
        scale = columns.mean(axis=0)
        if not (scale > 0).all():
            continue
        values, *_ = np.linalg.lstsq(columns / scale, np.ones(len(seconds)), rcond=1e-6)
        if (values < 0).any():
            continue
        found[list(choice)] = values / scale
        error = float(np.square(features @ found / seconds - 1).sum())
        if error < _WORTH * least - len(seconds) * 1e-12:
            best, least = found, error
    return best

"""Figures of many videos as one: medians, parts, and how sure they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ltx_ray.evaluation.figures import FIGURES, Value

_RESAMPLES = 2000
_SEED = 0  # the same videos have the same intervals
_BLOCK = 2**22  # values that are drawn together


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One figure over videos: the median, or of truths the part that is true, with its 95% interval."""

    value: float
    low: float
    high: float
    videos: int  # that have the figure


def estimate(values: Sequence[float], *, is_truth: bool = False) -> Estimate:
    """The median of ``values``, at least one (or their mean, where they are truths), and the interval of 95%
    in which it lies, by the percentile bootstrap over 2000 resamples (Efron 1979)."""
    data = np.asarray(values, dtype=np.float64)
    statistic = np.mean if is_truth else np.median
    draw = np.random.default_rng(_SEED)
    found: list[float] = []
    while len(found) < _RESAMPLES:
        rows = min(_RESAMPLES - len(found), max(_BLOCK // len(data), 1))
        samples = data[draw.integers(0, len(data), (rows, len(data)))]
        found += [float(each) for each in statistic(samples, axis=1)]
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(value=float(statistic(data)), low=float(low), high=float(high), videos=len(data))


def summarise(rows: Sequence[Mapping[str, Value | None]]) -> dict[str, Estimate]:
    """The estimate of each figure that any video has, by name, in the order of ``FIGURES``."""
    found = {}
    for figure in FIGURES:
        values = [float(value) for row in rows if (value := row.get(figure.name)) is not None]
        if values:
            found[figure.name] = estimate(values, is_truth=figure.kind == "truth")
    return found

"""How many actors each stage should have: pure functions of what the work takes and of what there is.

A stage's throughput is its number of actors over the seconds that one shot takes of it. The slowest stage
is that of the farm, so each GPU goes where the throughput is least (max-min fairness, by progressive filling:
Bertsekas and Gallager, Data Networks, 6.5.2).
"""

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

Name = TypeVar("Name")

_FIRST_STEP = 16  # actors that a stage may ask for before any of them works
_ROOM = 1e-9  # shares are sums of floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One stage of those that share the GPUs."""

    seconds: float  # that one actor works on a shot, on average; above 0
    share: float  # GPUs that one actor takes; above 0
    least: int = 0  # actors
    most: int = 2**31


def split(demands: Mapping[Name, Demand], gpus: float) -> dict[Name, int]:
    """Actors of each stage so that ``gpus`` serve the slowest stage best; never more than that in all.

    Each stage has its ``least``, and one actor before any has a second, as far as there is room for them:
    the last ones in ``demands`` go without.
    """
    if not demands:
        return {}
    sizes = {}
    left = gpus
    for name, demand in demands.items():
        wanted = min(max(demand.least, 1), demand.most)
        sizes[name] = min(wanted, int((left + _ROOM) / demand.share))
        left -= sizes[name] * demand.share
    head_start = _evenly(demands, sizes, gpus)
    if (room := gpus - _taken(demands, head_start)) >= 0:
        sizes, left = head_start, room
    slowest = [(sizes[name] / demands[name].seconds, number, name) for number, name in enumerate(demands)]
    heapq.heapify(slowest)
    while slowest:
        _, number, name = heapq.heappop(slowest)
        demand = demands[name]
        if sizes[name] < demand.most and demand.share <= left + _ROOM:
            sizes[name] += 1
            left -= demand.share
            heapq.heappush(slowest, (sizes[name] / demand.seconds, number, name))
    return sizes


def _evenly(demands: Mapping[Name, Demand], sizes: Mapping[Name, int], gpus: float) -> dict[Name, int]:
    """What filling one by one comes to when all are nearly as fast as if actors could be divided at will."""
    rate = 0.9 * gpus / sum(demand.seconds * demand.share for demand in demands.values())
    return {name: max(sizes[name], min(ceil(rate * d.seconds), d.most)) for name, d in demands.items()}


def _taken(demands: Mapping[Name, Demand], sizes: Mapping[Name, int]) -> float:
    return sum(sizes[name] * demand.share for name, demand in demands.items())


def ramped(wanted: int, working: int) -> int:
    """How many of the ``wanted`` actors a stage may have now that so many are at work: twice as many, so that
    an error in what is known of the work costs one step only, and ``_FIRST_STEP`` in any case."""
    return min(wanted, working + max(working, _FIRST_STEP))


def settled(
    now: Mapping[Name, int], wanted: Mapping[Name, int], starving: Collection[Name]
) -> Mapping[Name, int]:
    """The sizes to go on with: ``wanted`` where that is worth moving actors for, else those of ``now``.

    It is where a stage would grow by more than a tenth whose work waits while none of its actors is idle. So
    the queues say when, the speeds how far, and small errors in what is known move nothing to and fro.
    """
    return wanted if any(wanted[name] > 1.1 * now[name] for name in starving) else now

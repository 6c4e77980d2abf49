"""What shares one GPU, and whether its memory holds that: pure functions, bytes and shares in, words out."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from cluster.placement import Placement
from ltx_ray.types import Stage

GIB = 2**30
# Bytes of the cards that Ray's label ray.io/accelerator-type names; of those of several sizes, the smallest.
CARD_BYTES: Mapping[str, int] = {
    **dict.fromkeys(("T4", "V100", "P100"), 16 * GIB),
    **dict.fromkeys(("A10", "A10G", "L4", "RTX-4090"), 24 * GIB),
    **dict.fromkeys(("A100", "A100-40G"), 40 * GIB),
    **dict.fromkeys(("L40", "L40S", "A40", "A6000"), 48 * GIB),
    **dict.fromkeys(("A100-80G", "H100", "H800"), 80 * GIB),
    **dict.fromkeys(("H20", "GH200"), 96 * GIB),
    **dict.fromkeys(("H200",), 141 * GIB),
    **dict.fromkeys(("B200", "GB200"), 180 * GIB),
}
_ROOM = 1e-9  # shares are sums of floats


@dataclass(frozen=True, slots=True)
class Crowd:
    """Actors that share a card, and the bytes that they need together."""

    actors: Mapping[Stage, int]
    needed: int


def worst_crowd(needs: Mapping[Stage, int], placement: Placement, gpus: float) -> Crowd:
    """Those that need most of all that Ray may put on one card. ``needs``: bytes of one actor; ``gpus``: of
    the whole cluster."""
    stages = [stage for stage in needs if placement.gpus[stage] > 0]
    bounds = [_most(stage, placement, gpus) for stage in stages]
    worst = Crowd({}, 0)
    for counts in product(*(range(bound + 1) for bound in bounds)):
        taken = sum(count * placement.gpus[stage] for stage, count in zip(stages, counts, strict=True))
        needed = sum(count * needs[stage] for stage, count in zip(stages, counts, strict=True))
        # An actor that takes several cards has them for itself, and none of them is fuller than one is.
        if (taken <= 1 + _ROOM or sum(counts) == 1) and needed > worst.needed:
            worst = Crowd({s: count for s, count in zip(stages, counts, strict=True) if count}, needed)
    return worst


def _most(stage: Stage, placement: Placement, gpus: float) -> int:
    """Actors of a stage on one card. Pools are resized on several GPUs; encoders are never what is slow."""
    fitting = max(int((1 + _ROOM) / placement.gpus[stage]), 1)
    is_fixed = gpus < 2 or stage is Stage.CONDITION
    return min(fitting, placement.sizes[stage]) if is_fixed else fitting

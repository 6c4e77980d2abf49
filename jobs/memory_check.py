"""Does what shares a GPU fit its memory? Told before a run begins, with a setting that would make it fit.

Ray shares GPUs out by numbers, and does not look at their memory: who needs too much fails hours later.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.cards import CARD_BYTES, GIB, Crowd, worst_crowd
from cluster.facts import Gpu
from cluster.placement import Placement
from ltx_ray.errors import PreflightError
from ltx_ray.models.checkpoint import Checkpoint, resolve
from ltx_ray.models.memory import Need, stage_needs
from ltx_ray.planning.workload import workload_of
from ltx_ray.run import RunSpec
from ltx_ray.types import Shot, Stage

_LESS_TILE_BYTES = (8 * GIB, 4 * GIB, 2 * GIB, GIB, GIB // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """The GPUs that a run may use."""

    name: str
    size: int  # bytes of the smallest of them
    count: float  # in all


def cards_of(gpus: Sequence[Gpu], accelerator: str | None, count: float) -> Cards | None:
    """The GPUs that were seen, or else those that ``accelerator`` (Ray's type of them) means; None: nobody
    knows how large they are."""
    seen = [gpu for gpu in gpus if gpu.memory]
    if seen:
        smallest = min(seen, key=lambda gpu: gpu.memory)
        return Cards(name=smallest.name, size=smallest.memory, count=count)
    known = CARD_BYTES.get(accelerator or "")
    return Cards(name=str(accelerator), size=known, count=count) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How full a card becomes at most."""

    needs: dict[Stage, Need]
    crowd: Crowd

    def on(self, cards: Cards) -> bool:
        """Whether it is not overfull."""
        return self.crowd.needed <= cards.size


def check_memory(run: RunSpec, placement: Placement, cards: Cards, shots: Iterable[Shot]) -> Fit:
    """How full a card becomes. Raises PreflightError where that is too full: what each actor needs, what the
    card has, and what would fit."""
    setup = _Setup(run, placement, cards, tuple(shots), resolve(run.checkpoint))
    fit = setup.fit()
    if fit.on(cards):
        return fit
    crowd = " and ".join(f"{count} x {stage}" for stage, count in fit.crowd.actors.items())
    each = "; ".join(
        f"{stage} {_gib(need.total)} (weights {_gib(need.weights)}, largest task {_gib(need.activations)})"
        for stage, need in fit.needs.items()
    )
    raise PreflightError(
        f"the actors that share one GPU need more memory than it has: {crowd} need {_gib(fit.crowd.needed)}, "
        f"{cards.name} has {_gib(cards.size)}, so nothing was begun. One actor needs: {each}. "
        f"{setup.advice(fit)}"
    )


@dataclass(frozen=True, slots=True)
class _Setup:
    run: RunSpec
    placement: Placement
    cards: Cards
    shots: tuple[Shot, ...]
    checkpoint: Checkpoint

    def fit(self) -> Fit:
        needs = stage_needs(self.run, self.checkpoint, workload_of(self.shots, self.run.plan_settings()))
        totals = {stage: need.total for stage, need in needs.items()}
        return Fit(needs=needs, crowd=worst_crowd(totals, self.placement, self.cards.count))

    def advice(self, fit: Fit) -> str:
        """What would fit, the least that is changed first."""
        found = list(dict.fromkeys(self._single()))
        if not found:
            both = ((f"{a} and {b}", c) for a, one in self._apart() for b, c in one._cheaper())
            found = [words for words, setup in both if setup.fit().on(self.cards)][:1]
        card = f"give it GPUs with {_gib(fit.crowd.needed)} or more (device.accelerator)"
        if not found:
            return (
                f"No setting makes it fit: {card}, or render smaller frames or a smaller sampling.chunk_size"
            )
        return f"To do: {'; or '.join(found)}; or {card}"

    def _single(self) -> Iterator[str]:
        for words, setup in self._apart():
            if setup.fit().on(self.cards):
                yield words
        told = set()
        for words, setup in self._cheaper():
            key = words.partition("=")[0]
            if key not in told and setup.fit().on(self.cards):
                told.add(key)
                yield f"{words}, which belongs to OUT"

    def _apart(self) -> Iterator[tuple[str, "_Setup"]]:
        shares = {stage: 1.0 if share > 0 else 0.0 for stage, share in self.placement.gpus.items()}
        if shares != self.placement.gpus:
            table = ", ".join(f"{stage} = 1" for stage, share in shares.items() if share)
            words = f"--set 'pools.gpu_shares={{{table}}}', so that each actor has a GPU for itself"
            yield words, replace(self, placement=replace(self.placement, gpus=shares))

    def _cheaper(self) -> Iterator[tuple[str, "_Setup"]]:
        for size in _LESS_TILE_BYTES:
            if size < self.run.plan_settings().tiles.tile_bytes:
                yield f"--set decoding.tile_bytes={size}", self._with(decoding={"tile_bytes": size})
        if self.run.config.model.quantization == "none":
            for mode in ("int8", "fp8"):
                yield f"--set model.quantization={mode}", self._with(model={"quantization": mode})

    def _with(self, **changes: dict[str, Any]) -> "_Setup":
        config = self.run.config
        sections = {name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
        return replace(self, run=replace(self.run, config=config.model_copy(update=sections)))


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"

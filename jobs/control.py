"""Asks the drivers of a run for something, through OUT, and waits until it was done."""

import time
from dataclasses import replace

from jobs.status import has_driver, opened, shards_of
from ltx_ray.errors import RunBusyError, UserError
from ltx_ray.ledger.control import Request, ask
from ltx_ray.ledger.lease import DEAD_AFTER_S
from ltx_ray.shard import Shard

_LOOK_S = 0.2


def request(out: str, asked: Request) -> list[Shard]:
    """Ask the drivers of all shards that it concerns, and return when they have done it; the shards that
    nobody writes to, where it does not hold.

    Raises UserError where no driver lives, or none of a shard whose shots are named; RunBusyError where one
    does not answer.
    """
    store = opened(out)
    parts = _by_shard(asked, shards_of(store))
    idle = [shard for shard in parts if not has_driver(store, shard)]
    if len(idle) == len(parts) or (idle and asked.shots is not None):
        where = f"shard {', '.join(map(str, idle))} of {out}" if idle[0].count > 1 else out
        raise UserError(
            f"{asked.verb} needs a run that goes on, but nobody writes to {where}: give the render command "
            "again, then ask once more"
        )
    names = {ask(store, parts[shard], shard.name): shard for shard in parts if shard not in idle}
    until = time.monotonic() + DEAD_AFTER_S
    while waiting := [name for name in names if store.size(name) is not None]:
        if time.monotonic() > until:
            for name in waiting:
                store.delete(name)
            silent = ", ".join(str(names[name]) for name in waiting)
            where = f"shard {silent} of {out}" if len(parts) > 1 else out
            raise RunBusyError(
                f"the driver of {where} should answer within {DEAD_AFTER_S:g} s, but did not: see "
                "`ltx-ray status`"
            )
        time.sleep(_LOOK_S)
    return idle


def _by_shard(asked: Request, shards: tuple[Shard, ...]) -> dict[Shard, Request]:
    """What to ask of which shard."""
    if asked.shots is None:
        return dict.fromkeys(shards, asked)
    shots: dict[Shard, tuple[str, ...]] = {}
    for each in asked.shots:
        shard = Shard.of(each, len(shards))
        shots[shard] = (*shots.get(shard, ()), each)
    return {shard: replace(asked, shots=found) for shard, found in shots.items()}

"""Asks the driver of a run for something, through OUT, and waits until it was done."""

import time

from jobs.status import opened
from ltx_ray.errors import RunBusyError, UserError
from ltx_ray.ledger.control import Request, ask
from ltx_ray.ledger.lease import DEAD_AFTER_S, is_gone, read_lease

_LOOK_S = 0.2


def request(out: str, asked: Request) -> None:
    """Ask, and return when the driver has done it.

    Raises UserError where no driver lives, RunBusyError where it does not answer.
    """
    store = opened(out)
    lease = read_lease(store)
    if lease is None or is_gone(lease):
        raise UserError(
            f"{asked.verb} needs a run that goes on, but nobody writes to {out}: give the render command "
            "again, then ask once more"
        )
    name = ask(store, asked)
    until = time.monotonic() + DEAD_AFTER_S
    while store.size(name) is not None:
        if time.monotonic() > until:
            store.delete(name)
            raise RunBusyError(
                f"the driver of {out} should answer within {DEAD_AFTER_S:g} s, but did not: see "
                "`ltx-ray status`"
            )
        time.sleep(_LOOK_S)

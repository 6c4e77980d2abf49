"""What people ask of a run while it goes on: small files under OUT, for the cluster may be out of reach.

OUT/control/<shard>/<time>-<random>.json      there until the driver has done what it says
OUT/control/<shard>/standing.json             what holds until something else is asked for: a coordinator that
                                              takes the place of a lost one goes by it
"""

import json
import time
import uuid
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from ltx_ray.storage import Store

Verb = Literal["pause", "resume", "cancel"]
VERBS = get_args(Verb)
_STANDING = "standing.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing that is asked for."""

    verb: Verb
    shots: tuple[str, ...] | None = None  # cancel: these; None: all that have not ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What people have asked for and not taken back."""

    paused: bool = False
    cancelled: bool = False  # all that has not ended

    def after(self, request: Request) -> "Standing":
        """What stands once ``request`` was done. Shots that were called off by name stand in the ledger."""
        if request.verb == "cancel":
            return replace(self, cancelled=self.cancelled or request.shots is None)
        return replace(self, paused=request.verb == "pause")


def standing(store: Store, shard: str = "0000") -> Standing:
    """What was asked of the command that writes to this shard."""
    try:
        return Standing(**json.loads(store.read(f"{_folder(shard)}/{_STANDING}")))
    except (FileNotFoundError, ValueError, TypeError):
        return Standing()


def remember(store: Store, request: Request, shard: str = "0000") -> None:
    """``request`` was done."""
    after = standing(store, shard).after(request)
    store.write(f"{_folder(shard)}/{_STANDING}", (json.dumps(asdict(after)) + "\n").encode())


def ask(store: Store, request: Request, shard: str = "0000") -> str:
    """Leave ``request`` for the driver; the name of its file, which the driver deletes."""
    name = f"{_folder(shard)}/{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    store.write(name, (json.dumps(asdict(request)) + "\n").encode())
    return name


def asked(store: Store, shard: str = "0000") -> list[tuple[str, Request]]:
    """What was asked for and not done yet, in order, by the names of the files."""
    found = []
    for name in store.list(_folder(shard)):
        if name.endswith(f"/{_STANDING}"):
            continue
        try:
            values = json.loads(store.read(name))
            shots = values["shots"]
            is_known = values["verb"] in VERBS
            is_list = shots is None or (isinstance(shots, list) and all(isinstance(x, str) for x in shots))
            if not (is_known and is_list):
                raise ValueError("no request")
            request = Request(verb=values["verb"], shots=None if shots is None else tuple(shots))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError):  # nobody can do what it says
            store.delete(name)
            continue
        found.append((name, request))
    return found


def forget(store: Store, shard: str = "0000") -> None:
    """Drop what was asked of an earlier driver."""
    store.delete(_folder(shard))


def _folder(shard: str) -> str:
    return f"control/{shard}"

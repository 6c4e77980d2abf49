"""Which id a row has: its own, or one made of its content, never of its position.

    id 'Shot_1'              its own; two rows whose ids differ only in case are duplicates
    no id                    12 hex digits of the row's content, '-', the number of its occurrence
    broken id or duplicate   'row-', 20 hex digits of the row's content, '-', the number of its occurrence

Every row of a manifest gets another id, also with letter case folded, since file systems fold it.
An ``IdBook`` walks the rows in the manifest's order and remembers only what rows can have in common.
"""

import hashlib
import re
from array import array
from dataclasses import dataclass, field
from typing import Any

from ltx_ray.manifest.content import RawRow, canonical

ID_RULE = "1 to 100 of A-Z, a-z, 0-9, '.', '_', '-', not beginning with '.'"
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", re.ASCII)
_MADE = re.compile(r"([0-9a-f]{12})-([1-9][0-9]{0,9})")
_RESERVED = re.compile(r"row-[0-9a-f]{20}-[0-9]+")  # only ever made, so that it never meets a row's own id


def check_id(value: Any) -> str:
    """``value`` as a row's own id; whole numbers are taken as text. Raises ValueError, saying why not."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 64:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError("must be text")
    if _ID.fullmatch(value) is None:
        raise ValueError("must be safe as a file name")
    if _RESERVED.fullmatch(value.lower()):
        raise ValueError("must not have the form that is kept for rejected rows")
    return value


def default_seed(row_id: str) -> int:
    """The seed of a row that gives none: 53 bits of the SHA-256 of its id."""
    return int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8], "big") >> 11


@dataclass(frozen=True, slots=True)
class Identity:
    """What a single row says about its id."""

    own: str | None  # its own id, if it has a valid one
    base: str  # else: what its made id begins with
    key: int  # 64 bits; rows whose ids could be equal have equal keys


@dataclass(frozen=True, slots=True)
class Assigned:
    """The id that a row has among all rows."""

    id: str
    taken_by: int | None = None  # row number of the first row with the same own id; None: no duplicate


def identify(raw: RawRow) -> Identity:
    """The identity of a row, from the row alone."""
    given = None if raw.values is None else raw.values.get("id")
    if raw.values is not None and given is None:
        base = _digest(canonical(raw.values))[:12]
        return Identity(None, base, _key(base))
    try:
        own = check_id(given)
    except ValueError:
        base = _rejected_base(raw)
        return Identity(None, base, _key(base))
    # An own id may look like a made one, as when an output manifest is rendered again.
    made = _MADE.fullmatch(own.lower())
    return Identity(own, "", _key(made[1] if made else own.lower()))


def alone(identity: Identity) -> Assigned:
    """The id of a row that shares its key with no other."""
    return Assigned(identity.own or f"{identity.base}-1")


class IdBook:
    """Gives out ids. Rows with a shared key must be shown to it in the manifest's order, each once."""

    def __init__(self, shared: frozenset[int]) -> None:
        self._shared = shared  # the keys that more than one row has
        self._groups: dict[int, _Group] = {}

    def assign(self, raw: RawRow, identity: Identity) -> Assigned:
        """The id of ``raw``, which no other row has."""
        if identity.key not in self._shared:
            return alone(identity)
        group = self._groups.setdefault(identity.key, _Group())
        if identity.own is None:
            return Assigned(group.make(identity.base, raw.number))
        owner = group.claim(identity.own.lower(), raw.number)
        if owner is None:
            return Assigned(identity.own)
        return Assigned(group.make(_rejected_base(raw), raw.number), taken_by=owner)


@dataclass(slots=True)
class _Group:
    """The rows of one key so far: 8 bytes for each made id, one entry for each own id."""

    own: dict[str, int] = field(default_factory=dict)  # row by own id
    made: dict[str, "array[int]"] = field(default_factory=dict)  # row of each occurrence, by base

    def make(self, base: str, row: int) -> str:
        rows = self.made.setdefault(base, array("Q"))
        while (owner := self.own.get(f"{base}-{len(rows) + 1}")) is not None:
            rows.append(owner)
        rows.append(row)
        return f"{base}-{len(rows)}"

    def claim(self, own: str, row: int) -> int | None:
        """The row that has the id already; None: it is now ``row``'s."""
        made = _MADE.fullmatch(own)
        rows = self.made.get(made[1], array("Q")) if made else array("Q")
        if made and int(made[2]) <= len(rows):
            return rows[int(made[2]) - 1]
        owner = self.own.setdefault(own, row)
        return None if owner == row else owner


def _rejected_base(raw: RawRow) -> str:
    text = canonical(raw.values) if raw.values is not None else f"{raw.text}\n{raw.error}"
    return f"row-{_digest(text)[:20]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _key(text: str) -> int:
    return int(_digest(text)[:16], 16)

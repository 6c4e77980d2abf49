"""What a manifest row holds before anything is known about it, and how it is written down again.

Rows come from strangers: everything here accepts any value, however large or deep, and never raises.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ltx_ray.redact import redacted

MAX_DEPTH = 50  # lists and objects within each other; deeper is refused, long before Python's own limit
SHOWN = 80  # characters of a value that an error message shows
_PROMPTS = ("prompt", "prompts", "negative_prompt")
_MAX_INT_BITS = 256  # Python refuses to print integers of more than 4,300 digits


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in the manifest: its columns, or what kept them from being read."""

    number: int  # 1 for the first data row; headers and blank lines do not count
    values: dict[str, Any] | None  # plain Python values by column, in the manifest's order
    error: str | None = None  # what is wrong with the row; then values is None
    text: str = ""  # the row's text, as far as known, where it could not be read

    def as_json(self) -> str:
        """The row as a JSON object: the ``input`` column of the output manifest. Secrets in URLs are left out
        of it, but not of texts that are prompts."""
        if self.values is None:
            return to_json({"unreadable": redacted(self.text[:1000])})
        return to_json(
            {name: value if name in _PROMPTS else _redacted(value) for name, value in self.values.items()}
        )


def _redacted(value: Any, depth: int = MAX_DEPTH) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping) and depth:
        return {name: _redacted(each, depth - 1) for name, each in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_redacted(each, depth - 1) for each in value]
    return value


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """``value`` as data that JSON can hold: NaN and infinities become text, too deep parts ``"..."``."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _MAX_INT_BITS else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v, depth - 1) for k, v in value.items()} if depth else "..."
    if isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value] if depth else "..."
    return type(value).__name__


def to_json(value: Any) -> str:
    """``value`` as JSON for people to read, in its own order; always text that UTF-8 can hold."""
    text = json.dumps(plain(value), ensure_ascii=False)
    return text if is_unicode(text) else json.dumps(plain(value))


def canonical(values: Mapping[str, Any]) -> str:
    """One text for equal rows: columns sorted, absent ones (None) left out, ASCII only."""
    present = {name: value for name, value in values.items() if value is not None}
    return json.dumps(plain(present), sort_keys=True, separators=(",", ":"))


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold ``text``: it has no lone half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_too_deep(value: Any) -> bool:
    """Whether lists and objects are nested deeper than MAX_DEPTH."""
    layer = [value]
    for _ in range(MAX_DEPTH):
        layer = [child for item in layer for child in _children(item)]
        if not layer:
            return False
    return True


def shorten(value: Any) -> str:
    """``value`` for an error message: on one line, printable, about 80 characters at most."""
    if isinstance(value, str):
        value = value[: SHOWN + 1]
    elif not isinstance(value, float):
        value = plain(value)
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()

"""Writes plain data as TOML, which the standard library only reads."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(tree: Mapping[str, Any]) -> str:
    """A document of sections of values: what ``tomllib`` reads as ``tree`` again. None is left out, as TOML
    has none."""
    return "".join(f"{line}\n" for line in _lines(tree))


def _lines(tree: Mapping[str, Any]) -> Iterator[str]:
    """Plain values first: behind the head of a section they would be of it."""
    for key, value in tree.items():
        if not isinstance(value, Mapping) and value is not None:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f"[{_key(key)}]"
            yield from (f"{_key(name)} = {_value(each)}" for name, each in value.items() if each is not None)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        entries = (f"{_key(key)} = {_value(each)}" for key, each in value.items() if each is not None)
        return f"{{ {', '.join(entries)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return _text(value)
    # Numbers and truths are written as in JSON.
    return json.dumps(value)


def _text(text: str) -> str:
    # The escapes of JSON are TOML's, but for halves of pairs, and TOML wants one for the last control
    # character.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)

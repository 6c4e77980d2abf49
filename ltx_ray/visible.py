"""Text that comes from rows, files and their names, shown to people: it is read, and never obeyed.

Characters that steer a terminal (escape sequences, a carriage return), that begin another line, or that turn
the direction of writing, so that a name reads as another, are written out, as ``\\x1b``.
"""

import re

STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_STEERING_BUT_LINES = re.compile(f"(?![\n\t]){STEERING.pattern}")


def visible(text: str, *, lines: bool = False) -> str:
    """``text`` with what steers written out; ``lines``: its line ends and tabs stay."""
    pattern = _STEERING_BUT_LINES if lines else STEERING
    return pattern.sub(lambda match: ascii(match[0])[1:-1], text)

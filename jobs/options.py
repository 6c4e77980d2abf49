"""What the commands have in common: options and exit codes."""

from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    SOME_FAILED = 3
    INTERRUPTED = 75
    CTRL_C = 130


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]


def absolute(path: str) -> str:
    """A path that means the same on every node; URLs stay as they are."""
    return path if "://" in path else str(Path(path).expanduser().absolute())

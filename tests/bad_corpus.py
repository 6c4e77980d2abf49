"""One manifest of the whole corpus of bad input, with the files that its rows name."""

import json
from pathlib import Path
from typing import Any

from bad_files import FILES, GOOD_FILES, GOOD_WITH_FILES, SECRET
from bad_rows import GOOD, ROWS, Bad
from media_bytes import wav

CORPUS = [*ROWS, *FILES]
_FIRST, *_AMONG, _LAST = GOOD
# Good rows first, last, and between bad ones of all kinds.
LINES: list[Bad | dict[str, Any]] = [
    _FIRST,
    *ROWS,
    *_AMONG,
    *FILES[:50],
    *GOOD_WITH_FILES,
    *FILES[50:],
    _LAST,
]
NUMBERS = {line.name: number for number, line in enumerate(LINES, 1) if isinstance(line, Bad)}


def write_corpus(folder: Path) -> Path:
    """Make the manifest in ``folder``, which is made too."""
    folder.mkdir()
    (folder.parent / SECRET).write_bytes(wav(b"\1\0" * 800))
    for name, data in GOOD_FILES.items():
        (folder / name).write_bytes(data())
    for case in FILES:
        if case.write is not None:
            case.write(folder)
    manifest = folder / "shots.jsonl"
    lines = [line.line() if isinstance(line, Bad) else json.dumps(line).encode() for line in LINES]
    manifest.write_bytes(b"\n".join(lines) + b"\n")
    return manifest

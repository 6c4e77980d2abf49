"""The Python of the documents, run as it stands but for its model, its sizes and its numbers of steps."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"


def snippets(page: str) -> list[str]:
    """The blocks of Python of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run_page(page: str, changes: Mapping[str, str], **names: Any) -> dict[str, Any]:
    """Run all blocks of a page, one after the other, in one namespace that begins with ``names``; returns it.

    ``changes``: regular expressions, each of which must be found on the page, and what is put there instead.
    """
    unused = set(changes)
    for number, code in enumerate(snippets(page)):
        for pattern, instead in changes.items():
            code, count = re.subn(pattern, instead, code)
            if count:
                unused.discard(pattern)
        exec(compile(code, f"{page}, block {number}", "exec"), names)
    assert not unused, f"{page} has nothing that is like {sorted(unused)}"
    return names

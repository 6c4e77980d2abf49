"""Denoisers wait for nobody: the real coordinator and Ray, and stages that take a tenth of their time."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_FARM = Path(__file__).parent.parent / "benchmarks" / "farm.py"


@pytest.mark.chaos
def test_denoisers_are_at_work_from_the_first_chunk_to_the_last() -> None:
    words = [sys.executable, str(_FARM), "busy", "--json"]
    done = subprocess.run(words, cwd=_FARM.parent.parent, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["denoisers"] >= 14
    assert found["busy_percent"] >= 97, found

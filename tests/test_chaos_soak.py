"""A thousand shots in one run: nothing grows with them."""

import importlib.util
from pathlib import Path

import pytest

_SOAK = Path(__file__).parent.parent / "benchmarks" / "soak.py"


@pytest.mark.chaos
def test_a_thousand_shots_leave_memory_files_and_processes_flat(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("soak", _SOAK)
    assert spec is not None
    assert spec.loader is not None
    soak = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(soak)
    found = soak.growth(soak.soak(tmp_path, 1000))
    assert found["run"]["shots"] > 900
    assert found["coordinator_bytes"]["ratio"] < 1.15
    assert found["store_bytes"]["ratio"] < 1.15
    assert found["files"]["ratio"] < 1.05
    assert found["processes"]["ratio"] < 1.05

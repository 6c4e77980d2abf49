"""A run is watched over HTTP while it works, tells its end, and leaves its figures in OUT."""

import json
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from runs import QUICK, command, finish, render_here, start, wait_until, write_manifest

from ltx_ray.ledger.lease import read_lease
from ltx_ray.storage import Store

ROWS = [
    {"id": "first", "prompt": "a red circle", "width": 64, "height": 64, "num_frames": 40},
    {"id": "second", "prompt": "a blue square", "width": 64, "height": 64, "num_frames": 9},
    {"id": "third", "prompt": "a blue square", "width": 64, "height": -1},
]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_manifest(tmp_path / "shots.jsonl", ROWS)


def figures(text: str) -> dict[str, float]:
    """Values by name and labels."""
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        # Those of the process go on changing.
        if "process" not in sample.name
    }


def test_a_run_is_watched_to_its_end(manifest: Path, tmp_path: Path) -> None:
    out, targets = tmp_path / "out", tmp_path / "targets"
    settings = (*QUICK, "metrics.port=0", f"metrics.discovery={targets}", "metrics.run_name=watched")
    words = command(manifest, out, "--address", "in-process", settings=settings)
    run = start(words)
    (path,) = wait_until(lambda: list(targets.glob("*.json")), run)
    (target,) = json.loads(path.read_text())
    assert target["labels"] == {"job": "ltx-ray", "run": "watched", "shard": "0000"}
    url = f"http://{target['targets'][0]}/metrics"
    seen = []

    def has_ended() -> bool:
        with urllib.request.urlopen(url, timeout=10) as answer:
            seen.append(answer.read().decode())
        return 'ltx_ray_running{run="watched",shard="0000"} 0.0' in seen[-1]

    wait_until(has_ended, run)
    finish(run, 3)
    assert 'ltx_ray_running{run="watched",shard="0000"} 1.0' in seen[0]
    assert list(targets.iterdir()) == [], "a run that has ended is no target"
    told = (out / "metrics" / "0000.000001.prom").read_text()
    assert figures(told) == figures(seen[-1]), "the snapshot is what was scraped last"
    assert 'ltx_ray_shots_total{outcome="done",run="watched",shard="0000"} 2.0' in told
    assert 'ltx_ray_shots_total{outcome="rejected",run="watched",shard="0000"} 1.0' in told
    assert 'ltx_ray_chunks_total{outcome="done",run="watched",shard="0000"} 3.0' in told


def test_figures_are_left_of_every_call_whether_it_was_watched_or_not(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_here(manifest, out, limit=1)
    render_here(manifest, out)
    first, second = ((out / "metrics" / f"0000.{epoch:06d}.prom").read_text() for epoch in (1, 2))
    for told in (first, second):
        assert 'ltx_ray_shots_total{outcome="done",run="out",shard="0000"} 1.0' in told
    assert 'ltx_ray_manifest_rows_ended{outcome="done",run="out",shard="0000"} 2.0' in second


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("metrics.bind=192.0.2.1", "nobody can ask for the metrics: metrics.bind 192.0.2.1 cannot be opened"),
        ("metrics.discovery={folder}/shots.jsonl/sd", "the metrics are not written:"),
    ],
)
def test_what_cannot_be_told_is_said_and_stops_nothing(
    manifest: Path, tmp_path: Path, setting: str, message: str
) -> None:
    out = tmp_path / "out"
    summary = render_here(manifest, out, "metrics.port=0", setting.format(folder=tmp_path), limit=1)
    assert summary.progress.done == 1
    lease = read_lease(Store(str(out)))
    assert lease
    assert lease.progress
    assert message in lease.progress["message"]

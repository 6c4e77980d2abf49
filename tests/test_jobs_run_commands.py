"""A run is asked about and steered through its OUT: status, pause, cancel, retry, verify and repair."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from runs import (
    command,
    committed_chunks,
    finish,
    manifest_rows,
    render_here,
    start,
    video_hashes,
    wait_until,
    write_beeps,
    write_manifest,
)

from jobs.control import request
from jobs.retry import retry
from jobs.status import report
from jobs.verify import repair, verify
from ltx_ray.errors import ConfigError, UserError
from ltx_ray.ledger.control import Request
from ltx_ray.types import Status

SMALL = {"prompt": "a red circle moving right", "width": 64, "height": 64, "num_frames": 33}
LONG = {**SMALL, "num_frames": 97, "width": 96, "height": 96}


def cli(*words: str) -> "subprocess.CompletedProcess[str]":
    process = start([*command(Path(), Path())[:3], *words])
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of three shots."""
    manifest = write_manifest(tmp_path / "shots.jsonl", [{"id": name, **SMALL} for name in "abc"])
    render_here(manifest, tmp_path / "out")
    return tmp_path / "out"


def test_status_tells_a_finished_run_from_out_alone(finished: Path) -> None:
    found = report(str(finished))
    assert found.driver is not None
    assert (found.driver.state, found.total, found.model) == ("ended", 3, "tiny")
    assert found.ended == {"done": 3, "failed": 0, "rejected": 0, "cancelled": 0}
    told = cli("status", str(finished))
    assert told.returncode == 0, told.stderr
    assert "ended" in told.stdout
    assert json.loads(cli("status", str(finished), "--json").stdout)["ended"]["done"] == 3


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    for ask in (report, verify):
        with pytest.raises(ConfigError, match="must be the --output of a run"):
            ask(str(tmp_path))
    assert cli("verify", str(tmp_path)).returncode == 2


def test_verify_finds_what_is_wrong_and_repair_mends_it(finished: Path) -> None:
    hashes = video_hashes(finished)
    assert verify(str(finished)).findings == ()
    files = {row["id"]: finished / row["file_name"] for row in manifest_rows(finished)}
    files["a"].unlink()
    files["b"].write_bytes(files["b"].read_bytes()[:-100])
    data = bytearray(files["c"].read_bytes())
    data[len(data) // 2] ^= 255
    files["c"].write_bytes(data)
    stray = files["c"].with_name("d-1.1.mp4")
    stray.write_bytes(b"nobody's")
    found = {(finding.problem, finding.id) for finding in verify(str(finished)).findings}
    assert found == {("missing", "a"), ("truncated", "b"), ("changed", "c"), ("extra", None)}
    told = cli("verify", str(finished))
    assert told.returncode == 3
    assert "missing: a: videos/00000/a-1.1.mp4: there is no such file" in told.stdout
    assert cli("verify", str(finished), "--repair").returncode == 0
    assert video_hashes(finished) == hashes
    assert not stray.exists()
    assert verify(str(finished)).findings == ()
    assert {(row["id"], row["generation"]) for row in manifest_rows(finished)} == {(x, 2) for x in "abc"}


def test_repair_of_nothing_changes_nothing(finished: Path) -> None:
    before = sorted(path.relative_to(finished) for path in finished.rglob("*"))
    assert repair(str(finished), verify(str(finished))) == 0
    assert sorted(path.relative_to(finished) for path in finished.rglob("*")) == before


@pytest.fixture
def sound_server(tmp_path: Path) -> Iterator[Any]:
    """Serves a sound, or, while ``broken``, errors."""
    data = write_beeps(tmp_path / "beeps.wav", 2.0).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(503 if server.broken else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            if not server.broken:
                self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.broken = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def test_failed_shots_are_retried_by_their_kind_of_error(tmp_path: Path, sound_server: Any) -> None:
    url = f"http://127.0.0.1:{sound_server.server_port}/beeps.wav"
    rows = [{"id": "quiet", **SMALL}, {"id": "loud", **SMALL, "audio": url}]
    out = tmp_path / "out"
    allowed = ('inputs.schemes=["http"]', 'inputs.private_networks=["127.0.0.0/8"]')
    summary = render_here(write_manifest(tmp_path / "shots.jsonl", rows), out, *allowed)
    assert (summary.progress.done, summary.progress.failed) == (1, 1)
    found = report(str(out))
    assert [shot for shot, _ in found.failures] == ["loud"]
    (kind,) = found.failed_by_kind
    told = cli("retry", str(out), "--failed", "--kind", "out_of_memory")
    assert (told.returncode, "0 shots" in told.stderr) == (0, True), told.stderr
    sound_server.broken = False
    assert cli("retry", str(out)).returncode == 2, "what is to be retried must be said"
    told = cli("retry", str(out), "--failed", "--kind", kind, "--json")
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["progress"]["done"] == 2
    rows = {row["id"]: row for row in manifest_rows(out)}
    assert {(name, row["status"], row["generation"]) for name, row in rows.items()} == {
        ("quiet", "done", 1),
        ("loud", "done", 2),
    }


def test_an_ended_shot_can_be_wanted_anew_by_its_id(finished: Path) -> None:
    hashes = video_hashes(finished)
    assert retry(str(finished), lambda result: result.id == "b") == ["b"]
    assert report(str(finished)).driver.state == "ended"  # type: ignore[union-attr]
    told = cli("retry", str(finished), "b", "nobody")
    assert told.returncode == 0
    assert "unknown" in told.stderr
    assert "nobody" in told.stderr
    assert video_hashes(finished) == hashes
    assert {row["id"]: row["generation"] for row in manifest_rows(finished)} == {"a": 1, "b": 2, "c": 1}


def test_a_run_is_paused_goes_on_and_is_cancelled(tmp_path: Path) -> None:
    # So many that the run has not ended by itself before it is asked to.
    rows = [{"id": f"s{number}", **LONG} for number in range(40)]
    manifest, out = write_manifest(tmp_path / "shots.jsonl", rows), tmp_path / "out"
    run = start(command(manifest, out, "--address", "in-process", "--denoisers", "1"))
    wait_until(lambda: (out / "run.json").exists() and committed_chunks(out), run)
    request(str(out), Request(verb="pause"))

    def is_idle() -> bool:
        found = report(str(out))
        assert found.progress is not None
        stages = found.progress["stages"].values()
        return found.progress["paused"] and not any(each["running"] for each in stages)

    wait_until(is_idle, run)
    found = report(str(out))
    assert found.driver is not None
    assert found.driver.state == "paused"
    chunks = committed_chunks(out)
    request(str(out), Request(verb="cancel", shots=("s5",)))
    assert committed_chunks(out) == chunks, "nothing is denoised while it is paused"
    request(str(out), Request(verb="resume"))
    wait_until(lambda: committed_chunks(out) != chunks, run)
    request(str(out), Request(verb="cancel"))
    finish(run, 3)
    statuses = {row["id"]: row["status"] for row in manifest_rows(out)}
    assert set(statuses) == {row["id"] for row in rows}
    assert statuses["s5"] == Status.CANCELLED
    assert set(statuses.values()) == {Status.DONE, Status.CANCELLED}
    assert [path for path in (out / "work").rglob("*") if path.is_file()] == []
    with pytest.raises(UserError, match=r"needs a run that goes on, but nobody writes to"):
        request(str(out), Request(verb="pause"))
    # The same command leaves them alone, a retry does not.
    finish(start(command(manifest, out, "--address", "in-process")), 3)
    retry(str(out), lambda result: result.id == "s5")
    finish(start(command(manifest, out, "--address", "in-process")), 3)
    assert {row["id"]: row["status"] for row in manifest_rows(out)}["s5"] == Status.DONE

"""Real runs for tests: manifests, the command line in a process of its own, and what a run left behind."""

import hashlib
import json
import os
import subprocess
import sys
import time
import wave
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from actors.progress import Progress, Summary
from jobs.render import IN_PROCESS, RenderRequest, render
from ltx_ray.config import RenderConfig
from ltx_ray.ledger.ledger import read_records
from ltx_ray.ledger.records import ArtefactRecord
from ltx_ray.shard import WHOLE, Shard
from ltx_ray.storage import Store
from ltx_ray.types import Stage

QUICK = ("sampling.num_inference_steps=3", "sampling.chunk_size=25", "sampling.overlap_frames=8")
PATIENCE = 120.0  # seconds until a state that must come counts as one that does not


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A JSONL manifest."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(manifest: Path, out: Path | str, *options: str, settings: Iterable[str] = QUICK) -> list[str]:
    """``ltx-ray render`` as a list of words."""
    sets = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "jobs.cli", "render", str(manifest), "-o", str(out), *options, *sets]


def start(words: list[str], environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """The command in a process of its own; ``environment``: variables that it has besides."""
    inherited = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment = {**inherited, **(environment or {})}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: "subprocess.Popen[str]", code: int = 0) -> str:
    """Wait for the end; returns what went to stdout."""
    stdout, stderr = process.communicate(timeout=PATIENCE * 3)
    assert process.returncode == code, f"exit {process.returncode}, wanted {code}\n{stdout}\n{stderr}"
    return stdout


def wait_until(state: Callable[[], Any], process: "subprocess.Popen[str]") -> Any:
    """What ``state`` answers as soon as that is true; the process must live until then."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := state():
            return found
        assert process.poll() is None, f"ended too early:\n{process.communicate()}"
        time.sleep(0.02)
    raise AssertionError(f"the state did not come within {PATIENCE} s")


def actors(process: "subprocess.Popen[str]", title: str) -> list[psutil.Process]:
    """Processes of Ray actors below ``process`` whose title begins with ``ray::<title>``."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            words = child.cmdline()
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if words and words[0].startswith(f"ray::{title}"):
            found.append(child)
    return found


class Silent:
    """Shows nothing."""

    def update(self, progress: Progress | None) -> None:
        pass


def render_here(
    manifest: Path, out: Path | str, *settings: str, limit: int | None = None, shard: Shard = WHOLE
) -> Summary:
    """Render in this process."""
    config = RenderConfig.load(None, (*QUICK, *settings))
    request = RenderRequest(
        manifest=str(manifest), out=str(out), config=config, address=IN_PROCESS, limit=limit, shard=shard
    )
    return render(request, Silent())


def video_hashes(out: Path) -> dict[str, str]:
    """SHA-256 of every finished video, by shot."""
    rows = manifest_rows(out)
    found = {}
    for row in rows:
        if row["status"] == "done":
            data = (out / row["file_name"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == row["sha256"]
            found[row["id"]] = row["sha256"]
    return found


def manifest_rows(out: Path) -> list[dict[str, Any]]:
    """All rows of the output manifest."""
    rows: list[dict[str, Any]] = pq.read_table(out / "manifest").to_pylist()
    return rows


def committed_chunks(out: Path | str) -> Counter[tuple[str, int]]:
    """How often each chunk was denoised and committed, over all epochs of the ledger."""
    return Counter(
        (record.shot_id, record.key.index)
        for record in read_records(Store(str(out)))
        if isinstance(record, ArtefactRecord) and record.key.stage is Stage.DENOISE
    )


def write_beeps(path: Path, seconds: float, rate: int = 22_050) -> Path:
    """A WAV file, 16 bit, mono: a click at each second."""
    samples = np.zeros(round(seconds * rate), np.int16)
    for second in range(int(seconds)):
        samples[second * rate : second * rate + 200] = 20_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path

"""Runs to which something happens at a named moment, and what must hold of each when it has ended."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from runs import (
    PATIENCE,
    command,
    committed_chunks,
    finish,
    manifest_rows,
    start,
    video_hashes,
    wait_until,
    write_manifest,
)

FAULTS = Path(__file__).parent / "faults"
# Three chunks and four slabs of two tiles each, in a few seconds.
SETTINGS = (
    "sampling.num_inference_steps=3",
    "sampling.chunk_size=25",
    "sampling.overlap_frames=8",
    "decoding.slab_frames=32",
    "decoding.tile_size=96",
    "decoding.halo=0",
    "decoding.ramp=32",
)
ROWS: list[dict[str, Any]] = [
    {"id": f"s{number}", "prompt": f"a red circle {number}", "width": 128, "height": 64, "num_frames": 60}
    for number in range(3)
]
CHUNKS = 3  # of each of them
POOLS = ("--denoisers", "2", "--decoders", "2")


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happens to whom, and what: see faults/sitecustomize.py."""

    who: str
    when: str
    how: str = "kill"
    count: int = 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A folder in which one faulty run takes place."""

    folder: Path
    undisturbed: dict[str, str]  # hashes of the videos of a run to which nothing happened
    fault: Path  # says what happens; processes know a run by it
    rows: Sequence[dict[str, Any]] = tuple(ROWS)
    chunks: int = CHUNKS
    settings: Sequence[str] = SETTINGS

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    def command(self, *options: str) -> list[str]:
        """``ltx-ray render``; the same one each time."""
        manifest = self.folder / "shots.jsonl"
        if not manifest.exists():
            write_manifest(manifest, self.rows)
        return command(manifest, self.out, *POOLS, *options, settings=self.settings)

    def prepare(self, moment: Moment) -> dict[str, str]:
        """Write down what is to happen; returns the environment in which it does."""
        data = {"who": moment.who, "when": moment.when, "how": moment.how, "count": moment.count}
        self.fault.write_text(json.dumps({**data, "token": str(self.token)}))
        return environment(self.fault)

    def start(self, moment: Moment, *options: str) -> "subprocess.Popen[str]":
        """The command, to which it will happen."""
        return start(self.command(*options), self.prepare(moment))

    def happened(self, process: "subprocess.Popen[str]") -> dict[str, str]:
        """Wait until it did; whom it hit."""
        wait_until(self.token.exists, process)
        found: dict[str, str] = json.loads(self.token.read_text())
        return found

    def let_go(self) -> None:
        """What is held goes on."""
        Path(f"{self.token}.go").touch()

    def processes(self) -> list[psutil.Process]:
        """All of this run that live, wherever they are: they have its environment."""
        return [each for each in psutil.process_iter() if _named(each, str(self.fault))]

    def check(self, *, cluster: Callable[[psutil.Process], bool] = lambda process: False) -> None:
        """What happened has changed nothing. ``cluster``: as in ``check_all_is_well``."""
        assert self.token.exists(), "nothing ever happened to this run"
        self.check_all_is_well(cluster=cluster)

    def check_all_is_well(self, *, cluster: Callable[[psutil.Process], bool] = lambda process: False) -> None:
        """The whole of what is promised. ``cluster``: processes of a Ray that outlives the run."""
        rows = manifest_rows(self.out)
        assert Counter(row["id"] for row in rows) == Counter(row["id"] for row in self.rows)
        assert video_hashes(self.out) == self.undisturbed
        wanted = {(row["id"], index): 1 for row in self.rows for index in range(self.chunks)}
        assert committed_chunks(self.out) == wanted, "a finished chunk was made again, or one was lost"
        left = list(orphans(self.out))
        assert not left, left
        left = [each for each in self.processes() if not cluster(each)]
        _, alive = psutil.wait_procs(left, timeout=PATIENCE)
        assert alive == [], f"processes are left: {[_described(each) for each in alive]}"


def undisturbed_hashes(
    folder: Path, rows: Sequence[dict[str, Any]], settings: Sequence[str]
) -> dict[str, str]:
    """Hashes of the videos of one process without Ray, to which nothing happens."""
    manifest = write_manifest(folder / "shots.jsonl", rows)
    finish(start(command(manifest, folder / "out", "--address", "in-process", settings=settings)))
    return video_hashes(folder / "out")


def environment(fault: Path) -> dict[str, str]:
    """Of processes to which what ``fault`` says may happen."""
    path = os.pathsep.join(filter(None, [str(FAULTS), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "LTX_RAY_FAULT": str(fault)}


def orphans(out: Path) -> Iterator[str]:
    """Files of OUT that nothing names."""
    videos = {row["file_name"] for row in manifest_rows(out)}
    for path in out.rglob("*"):
        name = path.relative_to(out).as_posix()
        if path.is_dir() or name in videos or path.name == "metadata.parquet":
            continue
        if name.startswith(("ledger/", "manifest/", "metrics/", "logs/")) and not path.name.startswith("."):
            continue
        if name not in ("run.json", "command.json", "videos/README.md"):
            yield name


def _described(process: psutil.Process) -> dict[str, Any]:
    with suppress(psutil.Error):
        return process.as_dict(["pid", "ppid", "status", "cmdline", "num_threads"])
    return {"pid": process.pid}


def _named(process: psutil.Process, fault: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("LTX_RAY_FAULT") == fault
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def ended_by_hand(process: "subprocess.Popen[str]") -> None:
    """SIGKILL to a driver, and its end."""
    process.kill()
    process.communicate(timeout=PATIENCE)

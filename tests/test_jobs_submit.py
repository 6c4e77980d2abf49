"""Jobs over HTTP, with a token: what was asked for is rendered, and goes on after its driver was killed."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_head import Head, ray_head
from runs import (
    command,
    committed_chunks,
    finish,
    manifest_rows,
    start,
    video_hashes,
    wait_until,
    write_beeps,
    write_manifest,
)

from cluster.submission import checked_address
from jobs.control import request
from jobs.status import report
from jobs.submit import SubmitRequest
from jobs.submit import submit as begin
from jobs.verify import verify
from ltx_ray.config import RenderConfig
from ltx_ray.errors import ConfigError, UserError
from ltx_ray.ledger.control import Request
from ltx_ray.ledger.lease import read_lease
from ltx_ray.storage import Store

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("sampling.num_inference_steps=4", "sampling.chunk_size=25", "sampling.overlap_frames=8")
LONG = {"prompt": "a red circle", "width": 96, "height": 64, "num_frames": 73}
# The first has no id: it is made of what the row says, and decides the seed.
SHOTS: list[dict[str, Any]] = [
    {**LONG, "audio": "sounds/beat.wav"},
    {**LONG, "id": "same", "audio": "sounds/again.wav"},
    {**LONG, "id": "silent"},
]
CHUNKS = 3  # of each
POOLS = ("--denoisers", "1", "--decoders", "1")  # each actor takes seconds to start
STOPPED = 130


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head(ROOT) as made:
        yield made


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "sounds").mkdir()
    for name in ("beat", "again"):
        write_beeps(folder / f"sounds/{name}.wav", 4.0)
    return write_manifest(folder / "shots.jsonl", SHOTS)


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the videos of one process without Ray, which reads the files where they are."""
    out = tmp_path_factory.mktemp("in-process")
    finish(start(command(manifest, out, "--address", "in-process", settings=SETTINGS)))
    return video_hashes(out)


def cli(*words: str, **environment: str) -> "subprocess.Popen[str]":
    return start([sys.executable, "-m", "jobs.cli", *words], environment)


def told(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def submit(
    head: Head, manifest: Path, out: Path | str, *options: str, **more: str
) -> "subprocess.Popen[str]":
    sets = [word for setting in SETTINGS for word in ("--set", setting)]
    words = ("submit", str(manifest), "-o", str(out), "--address", head.address, *POOLS)
    return cli(*words, *sets, *options, **{**head.environment(), **more})


def job(head: Head, job_id: str) -> dict[str, Any]:
    """All that the job server knows of a job."""
    token = {"Authorization": f"Bearer {head.token.read_text()}"}
    asked = urllib.request.Request(f"{head.address}/api/jobs/{job_id}", headers=token)
    with urllib.request.urlopen(asked) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def status(head: Head, out: Path | str, *options: str) -> "subprocess.CompletedProcess[str]":
    return told(cli("status", str(out), "--address", head.address, *options, **head.environment()))


def state_of(out: Path) -> str:
    driver = report(str(out)).driver
    assert driver is not None
    return driver.state


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"RAY_AUTH_MODE": "disabled"},
            ("wants a token (401)", "RAY_AUTH_MODE=token", "RAY_AUTH_TOKEN_PATH"),
        ),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere/token"},
            ("/nowhere/token, which RAY_AUTH_TOKEN_PATH names, has none",),
        ),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
            ("refuses the token", "(403)", "TOKEN_PATH"),
        ),
    ],
)
def test_without_the_clusters_token_it_is_said_what_to_set(
    environment: dict[str, str], words: tuple[str, ...], head: Head, manifest: Path, tmp_path: Path
) -> None:
    asked = ("submit", str(manifest), "-o", str(tmp_path / "out"), "--address", head.address)
    # Ray would take these for the address, whatever is given.
    done = told(cli(*asked, **environment, RAY_API_SERVER_ADDRESS="http://127.0.0.1:1"))
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "out").exists(), "nothing is uploaded for a cluster that refuses"


def test_a_killed_driver_is_told_and_the_same_command_goes_on(
    head: Head, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    following = submit(head, manifest, out, "--follow", "--env", "A_SECRET", A_SECRET="not to be seen")
    store = Store(str(out))
    wait_until(lambda: read_lease(store), following)
    request(str(out), Request(verb="pause"))  # it must not end before all of it has been looked at
    wait_until(lambda: state_of(out) == "paused", following)
    found = json.loads(status(head, out, "--json").stdout)
    first = found["job"]["id"]
    assert (found["job"]["state"], found["driver"]["state"]) == ("RUNNING", "paused")
    assert found["disagreement"] is None

    refused = told(submit(head, manifest, out))
    assert refused.returncode == 4
    assert f"{first} is RUNNING" in refused.stderr
    assert f"ray job stop {first} --address {head.address}" in refused.stderr

    following.send_signal(signal.SIGINT)
    left = told(following)
    assert left.returncode == STOPPED
    assert f"`ltx-ray cancel {out}`" in left.stderr
    assert "shots (" in left.stderr, "it has told of the progress in OUT"
    assert f"ltx-ray status {out} --address {head.address}" in left.stderr

    seen = job(head, first)
    assert seen["status"] == "RUNNING", "the job goes on without who follows it"
    assert "not to be seen" not in json.dumps([seen["entrypoint"], seen["metadata"]])
    assert seen["metadata"]["output"] == str(out)
    lease = read_lease(store)
    assert lease is not None
    coordinator = psutil.Process(lease.pid)
    first_on_path = coordinator.environ()["PYTHONPATH"].split(os.pathsep)[:2]
    assert any("/py_modules_files/" in place for place in first_on_path), "the shipped packages are used"
    assert coordinator.environ()["A_SECRET"] == "not to be seen"

    request(str(out), Request(verb="resume"))
    wait_until(lambda: sum(committed_chunks(out).values()) >= 2, head.process)
    psutil.Process(int(seen["driver_info"]["pid"])).kill()
    wait_until(lambda: job(head, first)["status"] == "FAILED", head.process)
    coordinator.wait(60)
    before = committed_chunks(out)
    assert 2 <= sum(before.values()) < CHUNKS * len(SHOTS), "there must be something left to do"
    shown = status(head, out)
    assert "gone" in shown.stdout
    assert f"{first}: FAILED" in shown.stdout
    assert state_of(out) == "gone"

    done = told(submit(head, manifest, out, "--follow", "--json"))
    assert done.returncode == 0, done.stderr
    assert ": 0 of 2 files" in done.stderr, "the sounds are one file, and none is uploaded again"
    ended = json.loads(done.stdout)
    assert ended["job"]["id"] == f"{first[:-1]}2"
    assert (ended["job"]["state"], ended["driver"]["state"]) == ("SUCCEEDED", "ended")
    assert ended["disagreement"] is None
    assert video_hashes(out) == undisturbed
    assert set(committed_chunks(out).values()) == {1}, "a finished chunk was denoised again"
    assert sum(committed_chunks(out).values()) == CHUNKS * len(SHOTS)
    assert verify(str(out)).findings == (), "uploaded files are not extra"


@pytest.mark.slow
def test_shards_are_jobs_of_their_own(
    head: Head, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    out, shards = tmp_path / "out", ("1/2", "2/2")
    waiting = [submit(head, manifest, out, "--shard", shard, "--wait", "--json") for shard in shards]
    for shard, done in zip(shards, map(told, waiting), strict=True):
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"--address {head.address} --shard {shard}" in done.stderr
        ended = json.loads(done.stdout)
        assert ended["job"]["id"].endswith(f"-000{shard[0]}-1")
        assert (ended["job"]["state"], ended["driver"]["state"]) == ("SUCCEEDED", "ended")
    assert video_hashes(out) == undisturbed
    found = json.loads(status(head, out, "--json").stdout)
    assert {shard: job["state"] for shard, job in found["jobs"].items()} == dict.fromkeys(shards, "SUCCEEDED")
    assert (found["total"], found["ended"]["done"]) == (len(SHOTS), len(SHOTS))
    one = json.loads(status(head, out, "--shard", "2/2", "--json").stdout)
    assert one["job"] == found["jobs"]["2/2"]
    assert "job of shard 1/2" in status(head, out).stdout
    refused = told(submit(head, manifest, out))
    assert refused.returncode == 2
    assert "belongs to a run of 2 shards, but no --shard was given" in " ".join(refused.stderr.split())


def test_what_the_job_says_is_the_end_of_the_command_that_waits(
    head: Head, manifest: Path, s3_out: str
) -> None:
    # The job finds its model in the configuration beside OUT, and the way there in its environment.
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    words = ("--installed", "--model", "./nowhere", "--wait", *(f"--env={name}" for name in names))
    done = told(submit(head, manifest, s3_out, *words, COLUMNS="200"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "got './nowhere': no such folder" in done.stdout
    found = json.loads(status(head, s3_out, "--json").stdout)
    assert (found["job"]["state"], found["job"]["exit_code"]) == ("FAILED", 2)
    environment = job(head, found["job"]["id"])["runtime_env"]
    assert set(environment) == {"working_dir", "env_vars"}, "nothing is brought along"
    inputs = Store(s3_out).sizes("inputs")
    assert sorted(Path(name).suffix for name in inputs) == [".jsonl", ".toml", ".wav"]


def test_rays_own_command_renders_from_a_folder_with_a_jobs_of_its_own(head: Head, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "jobs").mkdir(parents=True)
    (project / "jobs/__init__.py").write_text("raise RuntimeError('the wrong package was imported')\n")
    shots = write_manifest(tmp_path / "shots.jsonl", [{**LONG, "id": "only", "num_frames": 9}])
    words = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head.address]
    words += ["--working-dir", ".", "--", "ltx-ray", "render", str(shots)]
    words += ["-o", str(tmp_path / "out"), *POOLS, "--set", "sampling.num_inference_steps=2"]
    environment = {**os.environ, **head.environment()}
    done = subprocess.run(
        words, cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["status"] for row in manifest_rows(tmp_path / "out")] == ["done"]


FAR = "http://ray.example:8265"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, r"every node sees, or a URL .* got the folder /.* \(http://ray\.example:8265\): .* --shared"),
    ({"out": "s3://me:word@bucket/out"}, r"--output must be a URL without secrets, got s3://\.\.\.@bucket"),
    (
        {"out": "s3://bucket/out", "manifest": "https://x.org/a.jsonl?sig=abc"},
        r"MANIFEST must be a URL without secrets, got https://x\.org/a\.jsonl\?\.\.\.: .* signed link",
    ),
    ({"shared": True, "variables": ("A=b",)}, r"--env wants the name of a variable alone, got A=\.\.\.:"),
    ({"shared": True, "variables": ("NOT_HERE",)}, r"NOT_HERE: there is no such variable"),
    ({"shared": True, "variables": ("RAY_AUTH_TOKEN",)}, r"nodes have its token themselves"),
]


@pytest.mark.parametrize(("changes", "words"), REFUSED)
def test_what_a_cluster_could_not_see_or_all_would_see_is_refused(
    changes: dict[str, Any], words: str, manifest: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"manifest": str(manifest), "out": str(tmp_path / "out"), "address": FAR}
    with pytest.raises(UserError, match=words):
        begin(SubmitRequest(**{**asked, "config": RenderConfig(), **changes}), print)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["head:8265", "10.0.0.1:6379", "ray://head:10001", "http://", "http://head:99999", "auto"]
)
def test_an_address_that_is_no_job_servers_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--address must be the URL .* http://HEAD:8265"):
        checked_address(address)


def test_an_address_is_taken_from_where_ray_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://second:8265")
    assert checked_address(None) == "http://second:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://first/")
    assert checked_address(None) == "https://first"
    assert checked_address("http://given:8265") == "http://given:8265"
    with pytest.raises(ConfigError, match=r"must carry no secrets, got http://\.\.\.@head"):
        checked_address("http://me:word@head:8265")


def test_where_nobody_answers_it_is_said(manifest: Path, tmp_path: Path) -> None:
    words = ("submit", str(manifest), "-o", str(tmp_path / "out"), "--address", "http://127.0.0.1:1")
    done = told(cli(*words))
    assert done.returncode == 2
    assert "http://127.0.0.1:1: no Ray job server answers there" in done.stderr

"""The doctor looks at OUT, the model and a real Ray, says what to do, and its exit code tells of failures."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import ray
from findings import holds
from fsspec.implementations.memory import MemoryFileSystem
from ray_cluster import Cluster, cluster
from runs import finish, start

from cluster import node_probe
from cluster.facts import Machine
from jobs.doctor_checks import State, check_added, check_model, check_output
from ltx_ray.checkpoints import tiny_path
from ltx_ray.config import RenderConfig
from ltx_ray.models.presence import look_for_model
from ltx_ray.storage_probe import StoreProbe


class CarelessFileSystem(MemoryFileSystem):
    """An object store that knows no conditional writes: whoever comes last wins, without a word."""

    protocol = "careless"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return super()._open(path, mode.replace("x", "w"), **options)


fsspec.register_implementation("careless", CarelessFileSystem, clobber=True)


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_good_out_is_found_good_and_left_as_it_was(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "not" / "there") if kind == "folder" else request.getfixturevalue("s3_out")
    probe = StoreProbe(url)
    facts = probe.try_out()
    assert facts.problem is None
    assert (facts.refuses_second, facts.reads_back, facts.lists) == (True, True, True)
    assert (facts.free is not None) == (kind == "folder")
    assert probe.clear() is None
    holds(check_output(facts), State.OK, url)
    assert list(tmp_path.iterdir()) == []


def test_what_was_in_out_before_stays(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    probe = StoreProbe(str(tmp_path))
    probe.try_out()
    assert len(list(tmp_path.iterdir())) == 2
    assert probe.clear() is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_store_that_lets_files_be_replaced_fails() -> None:
    probe = StoreProbe("careless://out")
    facts = probe.try_out()
    assert facts.problem is None
    assert (facts.refuses_second, facts.reads_back) == (False, True)
    assert probe.clear() is None
    holds(check_output(facts), State.FAILED, "careless://out", "second file of the same name")


def test_an_out_that_is_no_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    probe = StoreProbe(str(tmp_path / "file"))
    holds(check_output(probe.try_out()), State.FAILED, "could not create", "file")
    assert probe.clear() is None
    assert (tmp_path / "file").is_file()


def test_a_checkpoint_without_a_part_fails(tmp_path: Path) -> None:
    holds(check_model(look_for_model(RenderConfig())), State.OK, "tiny")
    folder = Path(shutil.copytree(tiny_path(), tmp_path / "model"))
    shutil.rmtree(folder / "vae")
    config = RenderConfig.load(None, (f"model.name={json.dumps(str(folder))}",))
    holds(check_model(look_for_model(config)), State.FAILED, "vae/")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    shutil.copytree(tiny_path() / "vae", folder / "vae")
    holds(check_model(look_for_model(config)), State.FAILED, "safetensors")


def test_an_adapter_or_a_lora_that_is_not_there_fails(tmp_path: Path) -> None:
    settings = (
        f"model.audio_adapter={tmp_path / 'none.safetensors'}",
        f'model.lora=["{tmp_path / "style.safetensors"}"]',
    )
    facts = look_for_model(RenderConfig.load(None, settings))
    assert facts.problem is None
    assert len(facts.added_problems) == 2
    found = check_added(facts)
    assert found.state is State.FAILED
    assert "the audio adapter must be a readable .safetensors file" in found.found
    assert "the LoRA must be a readable .safetensors file" in found.found
    holds(check_added(look_for_model(RenderConfig())), State.OK, "audio_adapter.safetensors")


def test_a_node_without_ltx_ray_can_say_so() -> None:
    ray.cloudpickle.register_pickle_by_value(node_probe)
    try:
        data = ray.cloudpickle.dumps(node_probe.look)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(node_probe)
    code = f"""if True:
        import json, pickle, sys
        sys.modules.update(dict.fromkeys(("ltx_ray", "cluster", "actors", "jobs")))  # as where they are not
        told = pickle.loads({data!r})("/tmp", ("/tmp", "name", b""), "tiny")
        print(json.dumps(told))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = Machine.of(json.loads(done.stdout.splitlines()[-1]))
    assert told.versions["ltx_ray"] is None
    assert told.versions["torch"] is not None
    assert told.output is not None
    assert told.model[0] == "bad"


def doctor(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    process = start([sys.executable, "-m", "jobs.cli", "doctor", *words], environment)
    out, err = process.communicate(timeout=180)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def states(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    found = {finding["check"]: finding["state"] for finding in json.loads(done.stdout)["findings"]}
    assert done.returncode == (4 if "failed" in found.values() else 0), done.stderr  # a disk may be full
    return found


def test_in_one_process_the_command_checks_what_applies(tmp_path: Path) -> None:
    done = doctor("--address", "in-process", "-o", str(tmp_path / "out"), "--json")
    found = states(done)
    assert {found[check] for check in ("versions here", "Ray", "output", "model", "adapters")} == {"ok"}
    assert "nodes" not in found
    assert "access to Ray" not in found
    assert not (tmp_path / "out").exists()


def test_what_fails_is_told_with_what_to_do_and_by_the_exit_code(tmp_path: Path) -> None:
    words = ("--address", "in-process", "--model", str(tmp_path / "none"), "-o", "nowhere://out")
    done = doctor(*words, COLUMNS="200")
    assert done.returncode == 4, done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith("failed")]
    assert [line.split()[1] for line in failed] == ["output", "model"]
    assert "no such folder" in failed[1]
    assert done.stdout.count("To do: ") >= 2
    assert "2 failed" in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_ray_that_does_not_answer_fails_and_the_rest_is_checked() -> None:
    done = doctor("--address", "127.0.0.1:1", "--json")
    assert done.returncode == 4, done.stderr
    found = states(done)
    assert (found["Ray"], found["model"]) == ("failed", "ok")
    assert "output is given" in done.stderr


def test_a_ray_of_its_own_is_closed_and_its_node_answers(tmp_path: Path) -> None:
    done = doctor("--address", "local", "-o", str(tmp_path / "out"), "--json")
    found = states(done)
    told = json.loads(done.stdout)
    assert found["access to Ray"] == "ok", done.stdout
    checks = ("nodes", "versions on nodes", "clocks", "output", "output on nodes", "model", "model on nodes")
    assert {check: found[check] for check in checks} == dict.fromkeys(checks, "ok"), done.stdout
    (only,) = told["ray"]["nodes"]
    assert (only["is_open"], only["machine"]["asks_token"]) == (False, True)
    assert only["machine"]["versions"] == told["machine"]["versions"]
    assert only["object_store"] > 0
    assert not (tmp_path / "out").exists()


@pytest.fixture
def open_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three nodes without a token, which only this machine can reach."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with cluster(tmp_path / "fault") as made:
        made.top_up(2)
        yield made


def test_every_node_of_a_cluster_is_asked_and_an_open_one_is_found(
    open_cluster: Cluster, tmp_path: Path
) -> None:
    # As a client with a token: it would not notice by itself that nobody wants to see it.
    mode = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    done = doctor("--address", open_cluster.address, "-o", str(tmp_path / "out"), "--json", **mode)
    found = states(done)
    assert found["access to Ray"] == "warning", done.stdout
    assert {found[check] for check in ("nodes", "versions on nodes", "clocks", "output on nodes")} == {"ok"}
    nodes = json.loads(done.stdout)["ray"]["nodes"]
    assert len({each["id"] for each in nodes}) == 3
    assert all(each["is_open"] and each["machine"]["asks_token"] is False for each in nodes)

    code = f"""if True:
        from cluster.connect import connected
        from cluster.inspect import inspect_ray
        from jobs.doctor_nodes import check_nodes
        with connected({open_cluster.address!r}, 1.0):
            found = check_nodes(inspect_ray(None, "tiny", seconds=0.0))
        print(found)
    """
    told = finish(start([sys.executable, "-c", code]))
    assert "failed" in told
    assert told.count("no answer in 0 s") == 3

"""The command line: data to stdout, narration to stderr, exit codes, and a path that shadows no package."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from runs import write_manifest

from ltx_ray.packages import check_folder
from ltx_ray.version import __version__

ROOT = Path(__file__).resolve().parent.parent
ROW = {"id": "a", "prompt": "a red circle", "width": 64, "height": 64, "num_frames": 9}
FAST = ("--address", "in-process", "--set", "sampling.num_inference_steps=2")


def run(
    *words: str, cwd: Path | None = None, python: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    words = (sys.executable, *python, "-m", "jobs.cli", *words)
    return subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)


def test_render_prints_one_json_document_and_nothing_else(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [ROW, {"id": "b", "prompt": ""}])
    done = run("render", str(manifest), "-o", str(tmp_path / "out"), "--json", *FAST)
    summary = json.loads(done.stdout)
    assert done.returncode == 3, "finished, but a row was rejected"
    assert (summary["progress"]["done"], summary["progress"]["rejected"]) == (1, 1)
    assert summary["failures"][0][0] == "b"
    again = run("render", str(manifest), "-o", str(tmp_path / "out"), *FAST)
    assert "2 rows had ended before" in again.stdout


def test_validate_tells_each_problem(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [ROW, {**ROW, "id": "b", "fps": 0}])
    done = run("validate", str(manifest))
    assert done.returncode == 3
    assert "row 2: fps" in done.stdout
    assert "1 of 2 rows are valid: 9 frames" in done.stdout
    write_manifest(manifest, [ROW])
    done = run("validate", str(manifest), "--json")
    assert (done.returncode, json.loads(done.stdout)["valid"]) == (0, 1)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("render", "nowhere.jsonl", "-o", "out"), "nowhere.jsonl"),
        (("render", "nowhere.jsonl"), "--output"),
        (("render", "nowhere.jsonl", "-o", "out", "--config", "nowhere.toml"), "nowhere.toml"),
        (
            ("render", "nowhere.jsonl", "-o", "out", "--set", "sampling.speed=9"),
            "sampling.speed: unknown key",
        ),
        (("render", "nowhere.jsonl", "-o", "out", "--denoisers", "0"), "denoisers"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(
    words: tuple[str, ...], part: str, tmp_path: Path
) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def shadowing(folder: Path, name: str) -> Path:
    """A package of the user's."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise RuntimeError('the wrong package was imported')\n")
    return folder


def shadowed(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """The console script with ``folder`` first on the path, as in a Ray job with ``--working-dir .``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["ltx-ray"].partition(":")
    script = (sys.executable, "-c", f"from {module} import {function}; {function}()", *words)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    return subprocess.run(script, capture_output=True, text=True, env=environment, cwd=folder, check=False)


@pytest.mark.parametrize("name", ["cluster", "actors"])
def test_a_folder_of_the_users_that_shadows_ours_is_named(name: str, tmp_path: Path) -> None:
    done = shadowed(shadowing(tmp_path, name), "--version")
    assert done.returncode == 2
    assert str(tmp_path / name) in done.stderr
    assert str(ROOT / name) in done.stderr
    assert "python -P" in done.stderr


def test_a_jobs_folder_of_the_users_hinders_nothing(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [ROW])
    folder = shadowing(tmp_path / "project", "jobs")
    done = shadowed(folder, "render", str(manifest), "-o", str(tmp_path / "out"), *FAST)
    assert done.returncode == 0, done.stderr
    words = (sys.executable, "-P", "-m", "ltx_ray", "--version")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n"), done.stderr


def test_workers_of_ray_would_import_packages_of_the_folder_and_so_it_is_refused(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "shots.jsonl", [ROW])
    folder = shadowing(tmp_path / "project", "actors")
    words = ("render", str(manifest), "-o", str(tmp_path / "out"), "--address", "local")
    done = run(*words, cwd=folder, python=("-P",))
    assert done.returncode == 2, done.stderr
    assert f"{folder} has a package actors of its own" in done.stderr
    check_folder(shadowing(tmp_path / "harmless", "jobs"))

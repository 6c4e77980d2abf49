"""cluster/docker: the image's recipe, as far as it can be held without building it."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from templates import DOCKERFILE, LASTING_CLUSTER, RAY_CLUSTER, ROOT, documents, extra, instructions, of_kind

from ltx_ray.version import __version__


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found


def context() -> set[str]:
    """Files that a build gets to see."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return {path for path in exclude_paths(str(ROOT), patterns) if (ROOT / path).is_file()}


def final() -> list[str]:
    """Instructions of the stage that becomes the image."""
    lines = instructions()
    return lines[max(index for index, line in enumerate(lines) if line.startswith("FROM ")) :]


def values(instruction: str) -> dict[str, str]:
    """What ENV or LABEL of the final stage sets."""
    (line,) = [line for line in final() if line.startswith(f"{instruction} ")]
    return dict(word.split("=", 1) for word in shlex.split(line)[1:])


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    odd = DOCKERFILE.read_text(encoding="utf-8").replace(":3.11.14-slim-bookworm", "")
    done = subprocess.run([linter, "-"], input=odd, capture_output=True, text=True, check=False)
    assert "DL3006" in done.stdout, "it does look"


def test_the_context_holds_what_is_built_and_no_secret() -> None:
    files = context()
    table = project()
    needed = {"pyproject.toml", "constraints.txt", table["project"]["readme"]}
    needed |= set(table["project"]["license-files"])
    packages = {package.replace(".", "/") for package in table["tool"]["setuptools"]["packages"]}
    assert needed <= files
    assert packages <= {str(Path(path).parent) for path in files}
    assert {path.partition("/")[0] for path in files} <= {
        *needed,
        *(package.partition("/")[0] for package in packages),
        ".dockerignore",
    }
    assert not any("__pycache__" in path for path in files)
    tiny = "ltx_ray/checkpoints/tiny"
    weights = {path.relative_to(ROOT).as_posix() for path in (ROOT / tiny).rglob("*.safetensors")}
    assert weights
    assert weights <= files


def test_dependencies_are_installed_from_the_constraints_before_our_code_is_there(tmp_path: Path) -> None:
    lines = instructions()
    (first,) = [index for index, line in enumerate(lines) if "--requirement" in line]
    (code,) = [index for index, line in enumerate(lines) if line == "COPY . ."]
    assert first < code, "a change of our code should not install everything anew"
    assert "--constraint constraints.txt" in lines[first]
    # The script of that line really lists what pyproject.toml asks for.
    (script,) = [word for word in shlex.split(lines[first]) if word.startswith("import sys, tomllib")]
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (extras,) = [line.partition('EXTRAS="')[2].strip('"').split() for line in lines if "ARG EXTRAS=" in line]
    words = [sys.executable, "-c", script, *extras]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    wanted = [*project()["project"]["dependencies"], *(each for name in extras for each in extra(name))]
    assert done.stdout.splitlines() == wanted
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in pins}
    assert {canonicalize_name(Requirement(text).name) for text in wanted} <= pinned


def test_python_is_the_one_that_the_constraints_were_tested_with() -> None:
    tested = re.search(r"\(Python (3\.\d+), ", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    bases = {line.split()[1] for line in instructions() if line.startswith("FROM ")}
    assert tested
    assert len(bases) == 1
    assert re.fullmatch(rf"python:{re.escape(tested[1])}\.\d+-slim-\w+", bases.pop())


def test_the_image_is_nobodys_root_and_calls_itself_by_its_version() -> None:
    (user,) = [line.split()[1] for line in final() if line.startswith("USER ")]
    assert user == "1000:1000"
    (config,) = documents(RAY_CLUSTER)
    assert config["auth"]["ssh_user"] == "ubuntu", "number 1000 too: it writes what this user reads"
    labels = values("LABEL")
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == project()["project"]["license"]


def test_the_image_has_what_ray_up_and_kuberay_ask_of_it() -> None:
    (installed,) = [line for line in final() if "apt-get install" in line]
    for tool in ("openssh-client", "rsync", "wget"):
        assert tool in installed
    environment = values("ENV")
    assert environment["HOME"] == f"{Path(environment['HOME']).parent}/ray"
    assert environment["RAY_AUTH_MODE"] == "token"
    pods = of_kind(LASTING_CLUSTER, "RayCluster")["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    mounted = {mount["mountPath"] for mount in pods["containers"][0]["volumeMounts"]}
    assert environment["HF_HOME"] in mounted
    assert not any(line.startswith("ENTRYPOINT") for line in final()), "`ray up` starts it with `bash`"
    copies = [line.split() for line in final() if line.startswith("COPY ")]
    assert {words[-1] for words in copies} == {"/usr/local"}, "on the PATH of login shells"


def test_ray_on_aws_finds_its_library_in_the_image() -> None:
    pytest.importorskip("boto3")
    assert any(Requirement(text).name == "boto3" for text in extra("aws"))

"""The templates of clusters: where they lie, what stands in them, and how commands in them are read."""

import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from jobs.cli import app

ROOT = Path(__file__).resolve().parent.parent
RAY_CLUSTER = ROOT / "ray_cluster.yaml"
ROLES = ROOT / "cluster/aws/roles.yaml"
DOCKERFILE = ROOT / "cluster/docker/Dockerfile"
KUBERNETES = ROOT / "cluster/kubernetes"
RAY_JOB = KUBERNETES / "job/rayjob.yaml"
LASTING_CLUSTER = KUBERNETES / "cluster/raycluster.yaml"
KUEUE = KUBERNETES / "kueue/kustomization.yaml"
POD_MONITOR = KUBERNETES / "podmonitor.yaml"
ALL = (RAY_CLUSTER, ROLES, DOCKERFILE, *sorted(KUBERNETES.rglob("*.yaml")))
PAGE = ROOT / "docs/clusters.md"

SCHEMAS_VARIABLE = "LTX_RAY_KUBERAY_SCHEMAS"


def kuberay_schema(kind: str) -> dict[str, Any]:
    """KubeRay's own schema of one of its kinds, in which nothing is allowed that it does not name.

    The files are KubeRay's CRDs as JSON schemas; they are not part of the repository.
    """
    folder = Path(os.environ.get(SCHEMAS_VARIABLE, ROOT.parent / "shared/kuberay"))
    path = folder / f"{kind.lower()}.schema.json"
    if not path.is_file():
        pytest.skip(f"KubeRay's schema is not at {path}: name its folder by {SCHEMAS_VARIABLE}")
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def documents(path: Path) -> list[dict[str, Any]]:
    """What a YAML file holds."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def of_kind(path: Path, kind: str) -> dict[str, Any]:
    """The one object of this kind in a manifest."""
    (found,) = [each for each in documents(path) if each["kind"] == kind]
    return found


def items(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key, however deep, with its value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from items(inner)


def strings(value: Any) -> Iterator[str]:
    """Every text, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for inner in value.values() for text in strings(inner))
    elif isinstance(value, list):
        yield from (text for inner in value for text in strings(inner))


def instructions() -> list[str]:
    """Lines of the Dockerfile, with those that continue one another put together."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def extra(name: str) -> list[str]:
    """What an extra of pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return list(project["optional-dependencies"][name])


def commands(script: str) -> Iterator[list[str]]:
    """The words of each command of a shell script, and of those that a command hands on to a node."""
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        if line.lstrip().startswith("#"):
            continue
        for part in re.split(r"&&|;|\|", line):
            words = shlex.split(part.strip().removeprefix("$ "), comments=True)
            if not words:
                continue
            yield words
            for word in words[1:]:
                if re.match(r"(ltx-ray|ray) ", word):
                    yield from commands(word)
            if "--" in words:
                yield from commands(shlex.join(words[words.index("--") + 1 :]))


def parse(words: list[str]) -> bool:
    """Hold a command of ours or of Ray's against the real command line. False: it is neither.

    Raises click.UsageError where there is no such command or option.
    """
    if words[:4] == ["python", "-P", "-m", "ltx_ray"]:
        words = ["ltx-ray", *words[4:]]
    if len(words) == 1 or words[0] not in ("ltx-ray", "ray"):
        return False
    if words[0] == "ltx-ray":
        command: Any = typer.main.get_command(app)
    else:
        from ray.scripts.scripts import cli as command  # slow to import
    rest = [word for word in words[1:] if not re.fullmatch(r"\d?[<>]+&?\d?", word)]
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            raise click.UsageError(f"no such command: {shlex.join(words)}")
        command, rest = command.commands[rest[0]], rest[1:]
    try:
        command.make_context(words[0], rest)
    except Exception as error:  # typer has a click of its own, with errors of its own
        raise click.UsageError(f"{shlex.join(words)}: {error}") from error
    return True


def blocks(page: Path) -> list[str]:
    """The shell commands that a document shows."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in ("", "sh")]

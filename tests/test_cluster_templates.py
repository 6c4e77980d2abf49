"""What all templates of clusters promise, and their page: no secrets, pinned images, commands that exist."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from click import UsageError
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from ray._raylet import RAY_NODE_ACCELERATOR_TYPE_KEY, RAY_NODE_MARKET_TYPE_KEY
from templates import (
    ALL,
    DOCKERFILE,
    LASTING_CLUSTER,
    PAGE,
    RAY_CLUSTER,
    RAY_JOB,
    ROOT,
    blocks,
    commands,
    documents,
    instructions,
    items,
    of_kind,
    parse,
    strings,
)

from ltx_ray.version import __version__

OUR_IMAGE = f"registry.example.com/ltx-ray:{__version__}"
SECRETS = (
    r"AKIA[0-9A-Z]{12,}",  # AWS
    r"hf_[A-Za-z0-9]{8,}",  # Hugging Face
    r"-----BEGIN",
    r"(?i)(?:password|passwd|secret_?key|access_?key|token)\w*\s*[:=]\s*[\"']?(?!/)[A-Za-z0-9+/_-]{12,}",
    r"(?<![/\w.-])[A-Za-z0-9]{32,}",  # keys, encoded
)


def held(path: Path) -> Any:
    """What a template holds, as data."""
    return instructions() if path == DOCKERFILE else documents(path)


@pytest.mark.parametrize("path", [*ALL, PAGE], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_that_looks_like_a_secret(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert [found for pattern in SECRETS for found in re.findall(pattern, text)] == []
    for odd in ("hf_abcdefghijkl", "token: abcdefghijklmnop", "AKIAIOSFODNN7EXAMPLE"):
        assert any(re.search(pattern, odd) for pattern in SECRETS), "a secret would be found"


def test_every_image_is_pinned_and_ours_is_of_this_version() -> None:
    images = [line.split()[1] for line in instructions() if line.startswith("FROM ")]
    for path in ALL:
        if path.suffix == ".yaml" and path.name != "roles.yaml":
            images += [value for key, value in items(documents(path)) if key.endswith("image")]
            for change in (value for key, value in items(documents(path)) if key == "images"):
                images += [f"{each['newName']}:{each['newTag']}" for each in change]
    assert len(images) > 8
    for image in images:
        tag = image.rpartition(":")[2]
        assert re.match(r"\d+\.\d+\.\d+", tag), f"{image} is not pinned"
        assert image == OUR_IMAGE or image.startswith("python:"), image
    assert f"--tag {OUR_IMAGE} " in DOCKERFILE.read_text(encoding="utf-8")


def shown() -> list[list[str]]:
    """Every command in the templates, their comments, and their page."""
    (config,) = documents(RAY_CLUSTER)
    texts = [*strings(config), of_kind(RAY_JOB, "RayJob")["spec"]["entrypoint"], *blocks(PAGE)]
    for path in ALL:
        lines = re.findall(r"^ *#   +(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        texts.append("\n".join(lines))
    return [words for text in texts for words in commands(text)]


def test_every_command_of_ours_and_of_rays_exists() -> None:
    found = [words for words in shown() if parse(words)]
    ours = [words for words in found if words[0] == "ltx-ray"]
    assert {words[1] for words in ours} >= {"render", "doctor", "status"}
    assert {words[1] for words in found if words[0] == "ray"} >= {"start", "stop", "up", "down", "dashboard"}
    with pytest.raises(UsageError, match="--outputs"):
        parse(["ltx-ray", "render", "shots.jsonl", "--outputs", "out"])
    with pytest.raises(UsageError, match="no such command"):
        parse(["ray", "upp", "ray_cluster.yaml"])


def test_every_file_that_a_command_names_is_there() -> None:
    for words in shown():
        for word in words:
            if re.match(r"cluster/|ray_cluster", word):
                assert (ROOT / word).exists(), word
    module = "cluster.spot_notice"
    assert any(module in words for words in shown())
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


@cache
def sources() -> str:
    """The text of those parts of Ray that read the environment."""
    home = Path(ray.__file__).parent
    folders = ("_private", "_common", "autoscaler/_private", "autoscaler/v2")
    return "".join(
        path.read_text(encoding="utf-8") for name in folders for path in (home / name).rglob("*.py")
    )


@pytest.mark.parametrize("path", [*ALL, PAGE], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_ray_reads_every_variable_that_is_named_so(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in set(re.findall(r"\bRAY_[A-Z][A-Z_]+\b", text)):
        assert name in sources(), name


def test_labels_are_those_that_ray_finds_by_itself() -> None:
    (config,) = documents(RAY_CLUSTER)
    found = [each["labels"] for each in config["available_node_types"].values() if "labels" in each]
    found += [each["labels"] for each in of_kind(LASTING_CLUSTER, "RayCluster")["spec"]["workerGroupSpecs"]]
    assert len(found) == 4
    for labels in found:
        assert labels.keys() == {RAY_NODE_ACCELERATOR_TYPE_KEY, RAY_NODE_MARKET_TYPE_KEY}
        card = labels[RAY_NODE_ACCELERATOR_TYPE_KEY]
        assert NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(f"NVIDIA {card}") == card


def test_no_line_is_too_long_to_read_and_yaml_says_everything_once() -> None:
    for path in ALL:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if len(line) > 110] == [], path.name
        if path.suffix == ".yaml" and path.name != "roles.yaml":
            for document in yaml.compose_all(path.read_text(encoding="utf-8")):
                _check_keys(document, path)


def _check_keys(node: Any, path: Path) -> None:
    """YAML takes the last of two equal keys, silently."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{path.name}: a key twice in {keys}"
    children = node.value if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) else ()
    for child in children:
        for each in child if isinstance(child, tuple) else (child,):
            _check_keys(each, path)


def test_templates_are_committed_as_they_are_run() -> None:
    words = ["git", "check-ignore", "--", *(str(path.relative_to(ROOT)) for path in ALL)]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout == ""

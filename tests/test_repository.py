"""What the repository promises of itself: imports run one way, a light start, true documents and examples."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from jobs.cli import Exit, app
from jobs.validate import validate
from ltx_ray.config import RenderConfig
from ltx_ray.manifest.index import index_manifest, shots
from ltx_ray.manifest.row import COLUMNS
from ltx_ray.planning.plan import plan_shot
from ltx_ray.run import RunSpec
from ltx_ray.types import Shot

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("ltx_ray", "cluster", "actors", "jobs")  # each may import those before it, and itself
RAY_PLACES = {
    *(f"actors/{name}.py" for name in ("ray_pool", "remote_host")),
    *(f"jobs/{name}.py" for name in ("render", "submit", "status", "train")),
}
HEAVY = ("torch", "ray", "diffusers", "transformers", "pyarrow", "pandas", "av", "numpy")


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Every module of the four packages: its path below the root, and its syntax tree."""
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    """Top-level names of the packages that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def repository_files() -> list[Path]:
    """All files that are, or could be, committed; all but the ignored ones."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in found.split("\0") if name and (ROOT / name).is_file()]


def table(document: str) -> dict[str, list[str]]:
    """Rows of a document's tables whose first cell is `code`: that code -> the other cells."""
    found = {}
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `") and (name := re.fullmatch(r"`([^`]+)`", cells[0])):
            found[name[1]] = cells[1:]
    return found


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config by its dotted key, with its default."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field.get_default(call_default_factory=True)


def test_imports_run_one_way() -> None:
    wrong = []
    for path, tree in modules():
        layer = LAYERS.index(path.partition("/")[0])
        wrong += [f"{path} imports {name}" for name in imported(tree) & set(LAYERS[layer + 1 :])]
        wrong += [f"{path} imports {name}" for name in imported(tree) & {"tests", "benchmarks", "examples"}]
    assert wrong == []


def test_ray_is_imported_only_where_the_cluster_is_met() -> None:
    users = {path for path, tree in modules() if "ray" in imported(tree)}
    assert {path for path in users if not path.startswith("cluster/")} <= RAY_PLACES
    assert "actors/ray_pool.py" in users, "the test sees imports of ray"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        *([name, "--help"] for name in ("render", "submit", "status", "plan", "validate")),
    ],
)
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom jobs.cli import app\n"
        f"try:\n    app({words!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "loaded: []"


def test_every_package_is_shipped() -> None:
    folders = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for layer in LAYERS
        for path in (ROOT / layer).rglob("__init__.py")
    }
    listed = pyproject()["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(folders)


def test_constraints_pin_what_pyproject_asks_for() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    odd = [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", pin)]
    assert odd == [], "plain versions only: no links, no local builds"
    versions = {canonicalize_name(pin.partition("==")[0]): pin.partition("==")[2] for pin in pins}
    project = pyproject()["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text


def test_the_configuration_page_has_every_key_and_its_default() -> None:
    documented = {key: cells[0] for key, cells in table("docs/configuration.md").items()}
    defaults = {
        key: "none" if value is None else f"`{json.dumps(value)}`" for key, value in fields(RenderConfig)
    }
    assert documented == defaults


def test_the_manifest_page_has_every_column() -> None:
    assert sorted(table("docs/manifest.md")) == sorted(COLUMNS)


def test_the_usage_page_has_every_option_and_exit_code() -> None:
    text = (ROOT / "docs/usage.md").read_text(encoding="utf-8")
    names = {"submit": "submitting", "plan": "planning"}
    own_pages = {name: (ROOT / f"docs/{page}.md").read_text("utf-8") for name, page in names.items()}
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"ltx-ray {name}" in text
        for option in (word for parameter in command.params for word in parameter.opts):
            assert not option.startswith("--") or f"`{option}" in own_pages.get(name, text), (
                f"{name} {option}"
            )
    assert {int(code) for code in table("docs/usage.md") if code.isdigit()} == {int(code) for code in Exit}


def test_documents_name_only_make_targets_and_files_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"\bmake ([a-z][a-z-]+)`", text):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{path.name}: make {target}"
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


@pytest.mark.parametrize(("manifest", "config"), [("shots.jsonl", "demo.toml"), ("minimal.csv", None)])
def test_the_examples_are_valid(manifest: str, config: str | None) -> None:
    settings = RenderConfig.load(str(ROOT / "examples" / config) if config else None)
    found = validate(str(ROOT / "examples" / manifest), settings)
    assert found.problems == ()
    assert found.valid == found.rows > 1


def test_the_demo_shows_long_sound_a_portrait_tiles_an_image_and_a_schedule() -> None:
    manifest = str(ROOT / "examples/shots.jsonl")
    config = RenderConfig.load(str(ROOT / "examples/demo.toml"))
    settings = RunSpec.decide(config, "unused", "cpu").plan_settings()
    rows = shots(manifest, config, index_manifest(manifest, config))
    plans = [plan_shot(row, settings) for row in rows if isinstance(row, Shot)]
    assert len(plans) == 4
    assert any(p.shot.audio and len(p.chunks) >= 3 and p.shot.num_frames == 360 for p in plans)
    assert any(p.shot.height > p.shot.width for p in plans)
    assert any(p.shot.image and len(p.shot.prompts) > 1 and len(p.chunks) > 1 for p in plans)
    (large,) = [p for p in plans if (p.shot.width, p.shot.height) == (3840, 2160)]
    assert large.shot.num_frames == 9
    assert min(len(slab.tiles) for slab in large.slabs) >= 4


def test_nothing_names_a_place_on_the_machine_it_was_built_on() -> None:
    # Written in parts, so that this file does not name them either.
    home = "|".join(("work", "root", r"home(?!/ray\b)", "Users", "opt"))  # that one is the image's
    pattern = re.compile(rf"(?<![\w.}}*>-])/({home})/|file:/{{3}}[a-z]")
    found = []
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.splitlines(), 1)
        found += [f"{path.relative_to(ROOT)}:{number}" for number, line in lines if pattern.search(line)]
    assert found == []


def test_the_check_of_a_change_is_make_test() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "make test" in text

"""What the commands have in common: options and exit codes."""

import json
import os
import sys
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from ltx_ray.config import RenderConfig


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    INTERNAL = 1
    USAGE = 2
    SOME_FAILED = 3
    PREFLIGHT = 4
    INTERRUPTED = 75
    CTRL_C = 130


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout.")]


Manifest = Annotated[
    str, typer.Argument(help="JSONL, CSV or Parquet (also .gz, .zst), or a folder of Parquet; path or URL.")
]
Config = Annotated[str | None, typer.Option("--config", help="TOML file with the run's configuration.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One value of the configuration: section.key=value.")
]
InputRoots = Annotated[
    list[str] | None,
    typer.Option("--input-root", help="A further folder in which files that rows name may lie."),
]
Output = Annotated[str, typer.Option("--output", "-o", help="Output folder; path or fsspec URL.")]
Model = Annotated[str | None, typer.Option("--model", help="tiny, a folder, or a hub id (@revision).")]
Denoisers = Annotated[
    str | None,
    typer.Option("--denoisers", metavar="N|MIN..MAX", help="Denoisers at a time: at most, or from and to."),
]
Decoders = Annotated[
    str | None, typer.Option("--decoders", metavar="N|MIN..MAX", help="The same of tile decoders.")
]
Gpus = Annotated[
    float | None, typer.Option("--gpus", help="GPUs to use at most; a cluster that can adds them.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Render at most so many rows.")]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", metavar="I/N", help="Part I of N of the manifest, a run of its own in the same OUTPUT."
    ),
]
MaxFailures = Annotated[
    int | None, typer.Option("--max-failures", min=1, help="Stop when so many shots have failed.")
]
Out = Annotated[str, typer.Argument(help="The --output of a run; path or fsspec URL.")]


def leave(code: Exit) -> NoReturn:
    """End now: threads of a run may be in the midst of a long call that nobody waits for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def absolute(path: str) -> str:
    """A path that means the same on every node; URLs stay as they are."""
    return path if "://" in path else str(Path(path).expanduser().absolute())


def with_roots(config: "RenderConfig", roots: list[str] | None) -> "RenderConfig":
    """``config`` with further folders in which files that rows name may lie."""
    if not roots:
        return config
    found = (*config.inputs.roots, *map(absolute, roots))
    return config.model_copy(update={"inputs": config.inputs.model_copy(update={"roots": found})})


def configured(
    config: str | None,
    settings: list[str] | None,
    roots: list[str] | None,
    model: str | None,
    denoisers: str | None,
    decoders: str | None,
    gpus: float | None,
    max_failures: int | None,
) -> "RenderConfig":
    """The configuration that the options of a run make together. Raises ConfigError."""
    from ltx_ray.config import RenderConfig

    options = {
        "model.name": model,
        "pools.denoisers": denoisers,
        "pools.decoders": decoders,
        "pools.max_gpus": gpus,
        "limits.max_failures": max_failures,
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    return with_roots(RenderConfig.load(config, (*(settings or ()), *overrides)), roots)

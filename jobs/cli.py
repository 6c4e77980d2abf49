"""The command line. Heavy imports come after the arguments are parsed, so that ``--help`` is instant.

Data goes to stdout, narration to stderr. Exit codes: 0 all done; 1 internal; 2 usage or unreadable
manifest; 3 finished, but some shots failed or were rejected; 75 interrupted, can be continued; 130 Ctrl-C.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.evaluate_command import evaluate
from jobs.options import Exit, Json, absolute
from jobs.train_command import train
from ltx_ray.errors import LtxRayError, UserError
from ltx_ray.version import __version__

_PACKAGES = ("ltx_ray", "cluster", "actors", "jobs")
app = typer.Typer(
    name="ltx-ray",
    help="A render farm for long, 4K, audio-driven LTX videos: a manifest in, finished MP4 files out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


Manifest = Annotated[
    str, typer.Argument(help="JSONL, CSV or Parquet (also .gz, .zst), or a folder of Parquet; path or URL.")
]
Config = Annotated[str | None, typer.Option("--config", help="TOML file with the run's configuration.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="One value of the configuration: section.key=value.")
]


@app.command()
def render(
    manifest: Manifest,
    output: Annotated[str, typer.Option("--output", "-o", help="Output folder; path or fsspec URL.")],
    model: Annotated[str | None, typer.Option(help="tiny, a folder, or a hub id (@revision).")] = None,
    config: Config = None,
    address: Annotated[
        str | None,
        typer.Option(help="local (default), auto, HOST:6379, or in-process (no Ray)."),
    ] = None,
    denoisers: Annotated[int | None, typer.Option(min=1, help="Most denoisers at a time.")] = None,
    decoders: Annotated[int | None, typer.Option(min=1, help="Most tile decoders at a time.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Render at most so many rows.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Render every row of MANIFEST; give the same command again to go on after anything."""
    from rich.console import Console

    from jobs.display import Display, summary_table
    from jobs.render import RenderRequest
    from jobs.render import render as run
    from ltx_ray.config import RenderConfig

    options = {"model.name": model, "pools.denoisers": denoisers, "pools.decoders": decoders}
    overrides = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    request = RenderRequest(
        manifest=absolute(manifest),
        out=absolute(output),
        config=RenderConfig.load(config, (*(settings or ()), *overrides)),
        # In a Ray job, and where the user has named a cluster, that cluster is meant.
        address=address or ("auto" if os.environ.get("RAY_ADDRESS") else "local"),
        limit=limit,
    )
    with Display(Console(stderr=True)) as display:
        summary = run(request, display)
    if as_json:
        typer.echo(json.dumps({"output": output, **asdict(summary)}, indent=2))
    else:
        Console().print(summary_table(summary, output))
    if summary.interrupted:
        _leave(Exit.CTRL_C if summary.by_ctrl_c else Exit.INTERRUPTED)
    if summary.progress.failed or summary.progress.rejected:
        raise typer.Exit(Exit.SOME_FAILED)


@app.command()
def validate(
    manifest: Manifest, config: Config = None, settings: Settings = None, as_json: Json = False
) -> None:
    """Check every row of MANIFEST, and the files that it names, without rendering."""
    from jobs.validate import validate as run
    from ltx_ray.config import RenderConfig

    found = run(manifest, RenderConfig.load(config, tuple(settings or ())))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        for problem in found.problems:
            typer.echo(problem)
        typer.echo(
            f"{found.valid} of {found.rows} rows are valid: {found.frames:,} frames, {found.seconds:,.1f} s"
        )
    if not found.is_valid:
        raise typer.Exit(Exit.SOME_FAILED)


app.command()(train)
app.command()(evaluate)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def check_packages() -> None:
    """The four packages must lie side by side: a user's own ``jobs`` or ``cluster`` folder would shadow ours.

    Raises UserError that says which path shadows which.
    """
    import importlib.util

    home = Path(__file__).resolve().parent.parent
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        places = list(spec.submodule_search_locations or ()) if spec else []
        found = Path(places[0]).resolve() if places else None
        if found != home / name:
            raise UserError(
                f"the package {name} should be {home / name}, but {found} comes first on Python's path: "
                f"run from another folder, or start with `python -P -m jobs.cli`"
            )


def main() -> None:
    """The console script ``ltx-ray``."""
    try:
        check_packages()
        app()
    except UserError as error:
        typer.echo(f"ltx-ray: {error}", err=True)
        sys.exit(Exit.USAGE)
    except LtxRayError as error:
        typer.echo(f"ltx-ray: {error}", err=True)
        sys.exit(Exit.INTERNAL)


def _leave(code: Exit) -> None:
    """End now: threads of an interrupted run may be in the midst of a long call that nobody waits for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

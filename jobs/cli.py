"""The command line. Heavy imports come after the arguments are parsed, so that ``--help`` is instant.

Data goes to stdout, narration to stderr. Exit codes: 0 all done; 1 internal; 2 usage or unreadable
manifest; 3 finished, but some shots failed, were rejected or were cancelled; 4 another driver writes to OUT,
or before a run, or by doctor, it was found what would fail; 75 interrupted, can be continued; 130 Ctrl-C.
"""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from jobs.doctor_command import doctor
from jobs.evaluate_command import evaluate
from jobs.options import Config, Exit, InputRoots, Json, Manifest, Settings, leave, with_roots
from jobs.plan_command import plan
from jobs.profile_command import profile
from jobs.render_command import render
from jobs.run_commands import cancel, pause, resume, retry, verify
from jobs.status_command import status
from jobs.submit_command import submit
from jobs.train_command import train
from ltx_ray.errors import (
    BudgetSpentError,
    LtxRayError,
    PreflightError,
    RunBusyError,
    RunHopelessError,
    UserError,
)
from ltx_ray.packages import check_packages
from ltx_ray.version import __version__
from ltx_ray.visible import visible

app = typer.Typer(
    name="ltx-ray",
    help="A render farm for long, 4K, audio-driven LTX videos: a manifest in, finished MP4 files out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def validate(
    manifest: Manifest,
    config: Config = None,
    input_roots: InputRoots = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Check every row of MANIFEST, and the files that it names, without rendering."""
    from jobs.validate import validate as run
    from ltx_ray.config import RenderConfig

    found = run(manifest, with_roots(RenderConfig.load(config, tuple(settings or ())), input_roots))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        for problem in found.problems:
            typer.echo(visible(problem))
        typer.echo(
            f"{found.valid} of {found.rows} rows are valid: {found.frames:,} frames, {found.seconds:,.1f} s"
        )
    if not found.is_valid:
        raise typer.Exit(Exit.SOME_FAILED)


for command in (
    *(render, submit, status, pause, resume, cancel, retry, verify),
    *(profile, plan, train, evaluate, doctor),
):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """The console script ``ltx-ray``."""
    try:
        check_packages()
        app()
    except LtxRayError as error:
        typer.echo(f"ltx-ray: {visible(str(error), lines=True)}", err=True)
        leave(_exit_code(error))


def _exit_code(error: LtxRayError) -> Exit:
    match error:
        case RunBusyError() | PreflightError():
            return Exit.PREFLIGHT
        case UserError():
            return Exit.USAGE
        case RunHopelessError() | BudgetSpentError():
            return Exit.SOME_FAILED
    return Exit.INTERNAL


if __name__ == "__main__":
    main()

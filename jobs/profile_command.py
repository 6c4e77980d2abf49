"""The command ``ltx-ray profile``. Heavy imports come after the arguments are parsed."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.options import Out, absolute


def profile(
    output: Out,
    write: Annotated[
        str | None,
        typer.Option("--write", "-w", metavar="FILE", help="Write the profile there, not to stdout."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Of a run on several: the device, as the output manifest names it.")
    ] = None,
) -> None:
    """Fit how long tasks take to the finished shots of OUT, for ``ltx-ray plan``."""
    from jobs.profile import profile as run
    from ltx_ray.types import Stage
    from ltx_ray.visible import visible

    found = run(absolute(output), device)
    for stage in Stage:
        time = found.stages[stage]
        typer.echo(f"{stage:10} {time.samples:6} samples, half of them within {time.error:.1%}", err=True)
    text = found.model_dump_json(indent=2) + "\n"
    if write is None:
        typer.echo(text, nl=False)
    else:
        Path(write).write_text(text, encoding="utf-8")
        typer.echo(f"wrote {visible(write)}: {visible(found.device)}, {visible(found.model)}", err=True)

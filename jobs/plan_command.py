"""The command ``ltx-ray plan``. Heavy imports come after the arguments are parsed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from jobs.options import Config, InputRoots, Json, Manifest, Model, Settings, absolute, configured


def plan(
    manifest: Manifest,
    profile: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="What tasks take, as `ltx-ray profile OUT --write FILE` found it."),
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs of the cluster.")] = None,
    sweep_gpus: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Several numbers of GPUs, to compare.")
    ] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs of a machine without GPUs, instead.")] = None,
    price: Annotated[
        float | None, typer.Option(min=0, help="Of a GPU for an hour; else metrics.price_per_gpu_hour.")
    ] = None,
    spot_loss: Annotated[
        float, typer.Option(min=0, max=0.99, help="Part of the actors at work that is lost in an hour.")
    ] = 0.0,
    start_seconds: Annotated[
        float, typer.Option(min=0, help="Until an actor has loaded its part of the model.")
    ] = 60.0,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write a page with charts there.")] = None,
    model: Model = None,
    config: Config = None,
    input_roots: InputRoots = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Tell what MANIFEST will take on a cluster: time, GPU-hours, cost. Renders nothing."""
    from rich.console import Console

    from jobs.plan import PlanRequest
    from jobs.plan import plan as run
    from jobs.plan_page import page
    from jobs.plan_table import table
    from ltx_ray.visible import visible

    chosen = configured(config, settings, input_roots, model, None, None, None, None)
    request = PlanRequest(
        manifest=absolute(manifest),
        config=chosen,
        profile=profile and absolute(profile),
        gpus=_numbers(sweep_gpus) if sweep_gpus else (() if gpus is None else (gpus,)),
        cpus=cpus,
        price=chosen.metrics.price_per_gpu_hour if price is None else price,
        spot_loss=spot_loss,
        start_seconds=start_seconds,
    )
    found = run(request)
    if html is not None:
        Path(html).write_text(page(found, manifest), encoding="utf-8")
        typer.echo(f"wrote {visible(html)}", err=True)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each, _ in found], indent=2))
    else:
        Console().print(table([each for each, _ in found]))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise typer.BadParameter(f"--sweep-gpus must be numbers such as 8,16,32, got {text!r}")
    return found

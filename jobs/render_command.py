"""The command ``ltx-ray render``. Heavy imports come after the arguments are parsed."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.options import (
    Config,
    Decoders,
    Denoisers,
    Exit,
    Gpus,
    InputRoots,
    Json,
    Limit,
    Manifest,
    MaxFailures,
    Model,
    Output,
    Settings,
    Shard,
    absolute,
    configured,
    leave,
)

if TYPE_CHECKING:
    from jobs.render import RenderRequest


def render(
    manifest: Manifest,
    output: Output,
    model: Model = None,
    config: Config = None,
    address: Annotated[
        str | None,
        typer.Option(help="local (default), auto, HOST:6379, or in-process (no Ray)."),
    ] = None,
    denoisers: Denoisers = None,
    decoders: Decoders = None,
    gpus: Gpus = None,
    limit: Limit = None,
    shard: Shard = None,
    max_failures: MaxFailures = None,
    input_roots: InputRoots = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Render every row of MANIFEST; give the same command again to go on after anything."""
    from jobs.render import RenderRequest
    from ltx_ray.shard import WHOLE
    from ltx_ray.shard import Shard as Part

    request = RenderRequest(
        manifest=absolute(manifest),
        out=absolute(output),
        config=configured(config, settings, input_roots, model, denoisers, decoders, gpus, max_failures),
        # In a Ray job, and where the user has named a cluster, that cluster is meant.
        address=address or ("auto" if os.environ.get("RAY_ADDRESS") else "local"),
        limit=limit,
        shard=Part.parse(shard) if shard else WHOLE,
    )
    run_and_tell([request], as_json)


def run_and_tell(requests: "Sequence[RenderRequest]", as_json: bool) -> None:
    """Render shards of one OUT, one after the other, show how it goes and how it ended, and leave with the
    exit code that says so."""
    from rich.console import Console

    from actors.progress import Summary
    from jobs.display import Display, summary_table
    from jobs.render import render as run

    summaries = []
    for request in requests:
        with Display(Console(stderr=True)) as display:
            summaries.append(run(request, display))
        if summaries[-1].interrupted:
            break
    summary, out = Summary.of_shards(summaries), requests[0].out
    if as_json:
        typer.echo(json.dumps({"output": out, **asdict(summary)}, indent=2))
    else:
        Console().print(summary_table(summary, out))
    progress = summary.progress
    if summary.interrupted:
        leave(Exit.CTRL_C if summary.by_ctrl_c else Exit.INTERRUPTED)
    leave(Exit.SOME_FAILED if progress.failed or progress.rejected or progress.cancelled else Exit.DONE)

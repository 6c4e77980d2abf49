"""The command ``ltx-ray evaluate``. Heavy imports come after the arguments are parsed."""

import json
from typing import Annotated

import typer

from jobs.options import Json, absolute


def evaluate(
    sources: Annotated[
        list[str], typer.Argument(metavar="OUT|VIDEO...", help="Output folders of runs, or video files.")
    ],
    pictures: Annotated[
        str | None,
        typer.Option(help="Folder for a picture of each video; of a run: OUT/evaluation."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="What was asked for (video files).")] = None,
    chunk_size: Annotated[
        int | None, typer.Option(help="Frames of a chunk (video files): shows where chunks meet.")
    ] = None,
    overlap_frames: Annotated[
        int | None, typer.Option(help="Frames that neighbouring chunks share (video files).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many videos of a run.")] = None,
    as_json: Json = False,
) -> None:
    """Measure finished videos: sound against picture, seams of chunks and tiles, drift, frozen pictures."""
    from rich.console import Console

    from jobs.evaluate import EvaluateRequest, document, tables
    from jobs.evaluate import evaluate as run
    from ltx_ray.visible import visible

    request = EvaluateRequest(
        sources=tuple(absolute(source) for source in sources),
        pictures=None if pictures is None else absolute(pictures),
        prompt=prompt,
        chunk_size=chunk_size,
        overlap_frames=overlap_frames,
        limit=limit,
    )
    measured = run(request, lambda text: typer.echo(visible(text), err=True))
    if as_json:
        typer.echo(json.dumps(document(measured), indent=2))
    else:
        Console().print(tables(measured))

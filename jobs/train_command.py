"""The command ``ltx-ray train``. Heavy imports come after the arguments are parsed."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.options import Exit, Json, absolute

if TYPE_CHECKING:
    from ltx_ray.training.request import TrainRequest


def train(
    kind: Annotated[str, typer.Argument(help="What is trained: vae, transformer or audio-adapter.")],
    data: Annotated[
        str, typer.Option(help="world (made by a program), or a folder of videos with metadata.jsonl.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="A folder of this training alone.")],
    model: Annotated[str, typer.Option(help="tiny, a folder, or a hub id (@revision).")] = "tiny",
    steps: Annotated[
        int, typer.Option(min=1, help="Optimizer steps, those of earlier calls included.")
    ] = 1000,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command goes on.")
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option("--size", help="Of a folder's clips: WIDTHxHEIGHTxFRAMES; may be repeated."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="None: that of the built-in checkpoint.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Video tokens of a batch, about.")] = 1200,
    batch: Annotated[int, typer.Option(min=1, help="Clips of a batch (vae).")] = 4,
    precision: Annotated[str, typer.Option(help="no (float32) or bf16.")] = "no",
    gradient_checkpointing: Annotated[bool, typer.Option(help="Less memory, a third more work.")] = False,
    audio_adapter: Annotated[
        str | None, typer.Option(help="Go on from this adapter; a transformer is trained together with it.")
    ] = None,
    audio_dropout: Annotated[
        float, typer.Option(help="Of both together: part of the batches in which nothing is heard.")
    ] = 0.3,
    decoder_only: Annotated[bool, typer.Option(help="vae: leave the encoder as it is.")] = False,
    warm_steps: Annotated[
        int, typer.Option(min=0, help="vae: of a warm start, for weights that were never trained.")
    ] = 0,
    start_layer: Annotated[int, typer.Option(min=0, help="The first layer that a new adapter uses.")] = 8,
    end_layer: Annotated[int, typer.Option(min=0, help="The last one.")] = 12,
    fps: Annotated[float, typer.Option(min=1, help="Frames per second of a folder's clips.")] = 24.0,
    data_workers: Annotated[
        int, typer.Option(min=0, help="Processes that make batches; 0: the training's own.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    save_every: Annotated[
        int, typer.Option(min=1, help="Steps between states that can be gone on from.")
    ] = 500,
    preview_every: Annotated[int, typer.Option(min=1, help="Steps between contact sheets.")] = 500,
    address: Annotated[
        str | None,
        typer.Option(help="Train as a Ray Train job: local, auto or HOST:6379. None: without Ray."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes of a Ray Train job.")] = 1,
    gpus: Annotated[bool, typer.Option(help="A GPU for each process of a Ray Train job.")] = False,
    as_json: Json = False,
) -> None:
    """Train a part of a model, or an audio adapter; give the same command again to go on."""
    from ltx_ray.training.request import Size, TrainRequest

    request = TrainRequest(
        kind=kind,  # type: ignore[arg-type]  # checked by the request
        data=data if data == "world" else absolute(data),
        output=absolute(output),
        model=absolute(model) if Path(model).is_dir() else model,
        steps=steps,
        minutes=minutes,
        learning_rate=learning_rate,
        sizes=tuple(Size.parse(size) for size in sizes or ()),
        tokens=tokens,
        batch=batch,
        precision=precision,  # type: ignore[arg-type]
        gradient_checkpointing=gradient_checkpointing,
        decoder_only=decoder_only,
        audio_adapter=None if audio_adapter is None else absolute(audio_adapter),
        audio_dropout=audio_dropout,
        warm_steps=warm_steps,
        start_layer=start_layer,
        end_layer=end_layer,
        data_workers=data_workers,
        seed=seed,
        save_every=save_every,
        preview_every=preview_every,
        fps=fps,
    )
    done = _trained(request, address, workers, gpus)
    number = done.pop("signal", None)
    if as_json:
        typer.echo(json.dumps(done, indent=2))
    else:
        typer.echo(
            f"{done['steps']} of {done['of']} steps are done: {done.get('audio_adapter', done['checkpoint'])}"
        )
    if number is not None:
        raise typer.Exit(Exit.CTRL_C if number == signal.SIGINT else Exit.INTERRUPTED)


def _trained(request: "TrainRequest", address: str | None, workers: int, gpus: bool) -> dict[str, Any]:
    from jobs.train import Workers, train, train_on_ray

    def say(text: str) -> None:
        typer.echo(text, err=True)

    if address is None:
        return train(request, say)
    return train_on_ray(request, Workers(count=workers, gpus=gpus), address, say)

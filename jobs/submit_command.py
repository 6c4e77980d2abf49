"""The command ``ltx-ray submit``. Heavy imports come after the arguments are parsed."""

import json
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
from ltx_ray.errors import UserError
from ltx_ray.visible import visible

if TYPE_CHECKING:
    from jobs.submit import Submitted


def submit(
    manifest: Manifest,
    output: Output,
    address: Annotated[
        str | None,
        typer.Option(help="The cluster's job server, http://HEAD:8265 [default: RAY_API_SERVER_ADDRESS]."),
    ] = None,
    wait: Annotated[
        bool | None, typer.Option("--wait/--no-wait", help="End as `render` would, when the job is over.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait, and go on telling how the run is.")] = False,
    model: Model = None,
    config: Config = None,
    denoisers: Denoisers = None,
    decoders: Decoders = None,
    gpus: Gpus = None,
    limit: Limit = None,
    shard: Shard = None,
    max_failures: MaxFailures = None,
    input_roots: InputRoots = None,
    settings: Settings = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="ltx-ray is installed on every node: do not bring it along.")
    ] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="OUTPUT is a folder that every node and this machine share.")
    ] = False,
    upload: Annotated[
        bool,
        typer.Option(
            "--upload/--no-upload", help="Copy MANIFEST, and files that it names, to OUTPUT/inputs."
        ),
    ] = True,
    variables: Annotated[
        list[str] | None,
        typer.Option("--env", help="Name of a variable of this environment that the job is to have."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Render MANIFEST as a job of a Ray cluster; give the same command again to go on after anything."""
    if follow and wait is False:
        raise UserError("--follow waits for the end of the job: give it without --no-wait")
    given = configured(config, settings, input_roots, model, denoisers, decoders, gpus, max_failures)
    from cluster.submission import checked_address
    from jobs.submit import SubmitRequest, how_to_look
    from jobs.submit import submit as run
    from ltx_ray.shard import WHOLE
    from ltx_ray.shard import Shard as Part

    request = SubmitRequest(
        manifest=absolute(manifest),
        out=absolute(output),
        config=given,
        address=checked_address(address),
        limit=limit,
        shard=Part.parse(shard) if shard else WHOLE,
        installed=installed,
        shared=shared,
        upload=upload,
        variables=tuple(variables or ()),
    )
    try:
        submitted = run(request, _narrate)
    except KeyboardInterrupt:
        _narrate("interrupted, nothing was submitted: the same command goes on with what is left to upload")
        leave(Exit.CTRL_C)
    look = how_to_look(submitted.output, submitted.address, request.shard)
    _narrate(f"submitted: job {submitted.id} renders to {submitted.output}; to look at it: {look}")
    if wait or follow:
        _wait(submitted, follow, as_json)
    elif as_json:
        typer.echo(json.dumps(asdict(submitted), indent=2))
    else:
        typer.echo(submitted.id)


def _wait(submitted: "Submitted", follow: bool, as_json: bool) -> None:
    """Wait for the end of the job, and leave with the exit code that says how it was."""
    from cluster.submission import JobServer
    from jobs.job_state import exit_code
    from jobs.job_watch import watch
    from jobs.status_command import Narrator, tell_end
    from jobs.submit import how_to_stop
    from ltx_ray.shard import Shard as Part

    shard = Part.parse(submitted.shard)
    narrator = Narrator(_narrate if follow else None)
    try:
        seen = watch(submitted.output, submitted.id, JobServer(submitted.address), narrator.show, shard)
    except KeyboardInterrupt:
        stop = how_to_stop(submitted.output, submitted.id, submitted.address, shard)
        _narrate(f"the job goes on without this command; to stop it: {stop}")
        leave(Exit.CTRL_C)
    tell_end(seen, as_json)
    leave(exit_code(seen.report, seen.job, submitted.epoch))


def _narrate(text: str) -> None:
    typer.echo(visible(text), err=True)

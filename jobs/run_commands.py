"""The commands that say what a run that was begun should do. They need its OUT, no cluster."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from jobs.options import Exit, Json, Out, absolute
from ltx_ray.errors import UserError
from ltx_ray.visible import visible


def pause(output: Out) -> None:
    """Let the run in OUTPUT finish what is at work, and begin nothing more until `resume`."""
    _ask(output, "pause")


def resume(output: Out) -> None:
    """Let the paused run in OUTPUT go on."""
    _ask(output, "resume")


def cancel(
    output: Out,
    shots: Annotated[
        list[str] | None, typer.Argument(help="Ids of shots; none: all that have not ended.")
    ] = None,
) -> None:
    """End shots of the run in OUTPUT as cancelled; what is finished stays."""
    _ask(output, "cancel", tuple(shots) if shots else None)


def retry(
    output: Out,
    shots: Annotated[list[str] | None, typer.Argument(help="Ids of shots that have ended.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="All that were cancelled.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="All that were rejected.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option(help="Of these only such as ended with this kind of error.")
    ] = None,
    only_mark: Annotated[
        bool, typer.Option("--only-mark", help="Do not render: the next render command will.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Render shots again that have ended; chunks that they have are used."""
    from jobs.render import remembered
    from jobs.render_command import run_and_tell
    from jobs.retry import concerned
    from jobs.retry import retry as want
    from ltx_ray.types import ShotResult, Status

    chosen = {Status.FAILED: failed, Status.CANCELLED: cancelled, Status.REJECTED: rejected}
    if not any(chosen.values()) and not shots:
        raise UserError("retry needs to know what: ids of shots, --failed, --cancelled or --rejected")
    ids, kinds = set(shots or ()), set(kind or ())

    def wanted(result: ShotResult) -> bool:
        is_named = result.id in ids or chosen.get(result.status, False)
        return is_named and (not kinds or result.error_kind in kinds)

    out = absolute(output)
    found = want(out, wanted)
    if unknown := sorted(ids - set(found)):
        typer.echo(f"not ended, unknown, or of another kind of error: {', '.join(unknown)}", err=True)
    typer.echo(f"{len(found)} shots are to be rendered again", err=True)
    if found and not only_mark:
        run_and_tell([remembered(out, shard) for shard in concerned(out, found)], as_json)


def verify(
    output: Out,
    repair: Annotated[
        bool, typer.Option("--repair", help="Render again what is not right, delete what is extra.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hold every row of the run in OUTPUT against its file: hash, frames, length, size."""
    from jobs.render import remembered
    from jobs.render_command import run_and_tell
    from jobs.retry import concerned
    from jobs.verify import repair as mend
    from jobs.verify import verify as look

    out = absolute(output)
    found = look(out)
    if as_json and not repair:
        typer.echo(json.dumps(asdict(found), indent=2))
    else:
        for finding in found.findings:
            text = f"{finding.problem}: {finding.id or '-'}: {finding.file}: {finding.text}"
            typer.echo(visible(text), err=repair)
        typer.echo(f"{found.videos} videos, {len(found.findings)} not right", err=repair)
    if not found.findings:
        return
    if not repair:
        raise typer.Exit(Exit.SOME_FAILED)
    if mend(out, found):
        bad = [finding.id for finding in found.findings if finding.id is not None]
        run_and_tell([remembered(out, shard) for shard in concerned(out, bad)], as_json)


def _ask(output: str, verb: str, shots: tuple[str, ...] | None = None) -> None:
    from jobs.control import request
    from ltx_ray.ledger.control import Request

    idle = request(absolute(output), Request(verb=verb, shots=shots))  # type: ignore[arg-type]
    typer.echo({"pause": "paused", "resume": "going on", "cancel": "cancelled"}[verb], err=True)
    if idle:
        typer.echo(f"not said to shards that nobody writes to: {', '.join(map(str, idle))}", err=True)

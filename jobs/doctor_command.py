"""The command ``ltx-ray doctor``. Heavy imports come after the arguments are parsed."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.options import Config, Exit, Json, Settings, absolute

if TYPE_CHECKING:
    from rich.table import Table

    from jobs.doctor_checks import Finding


def doctor(
    address: Annotated[
        str | None, typer.Option(help="local (default), auto, HOST:6379, or in-process (no Ray).")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="The --output of the runs to come; path or fsspec URL."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="tiny, a folder, or a hub id (@revision).")] = None,
    config: Config = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Look whether a run can be rendered: machines, versions, OUT, the model, a cluster that is closed."""
    from jobs.doctor import DoctorRequest, examine, gather
    from jobs.doctor_checks import State
    from ltx_ray.config import RenderConfig

    named = () if model is None else (f"model.name={json.dumps(model)}",)
    if output is None:
        typer.echo("no --output is given: the place for the videos is not looked at", err=True)
    facts = gather(
        DoctorRequest(
            address=address or ("auto" if os.environ.get("RAY_ADDRESS") else "local"),
            output=None if output is None else absolute(output),
            config=RenderConfig.load(config, (*(settings or ()), *named)),
        )
    )
    findings = examine(facts)
    counts = {state.value: sum(finding.state is state for finding in findings) for state in State}
    if as_json:
        ray = None if facts.ray is None else asdict(facts.ray)
        told = {"findings": [asdict(finding) for finding in findings], "counts": counts}
        typer.echo(json.dumps({**told, "machine": asdict(facts.here), "ray": ray}, indent=2))
    else:
        from rich.console import Console

        Console().print(findings_table(findings))
        typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))
    if counts[State.FAILED]:
        raise typer.Exit(Exit.PREFLIGHT)


def findings_table(findings: Sequence["Finding"]) -> "Table":
    """A line for each check; below what is not ok stands what to do."""
    from rich.table import Table
    from rich.text import Text

    from ltx_ray.visible import visible

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("", "check", "found"):
        table.add_column(title, overflow="fold", no_wrap=title != "found")
    styles = {"ok": "green", "warning": "yellow", "failed": "red"}
    for finding in findings:
        found = Text(visible(finding.found))
        if finding.advice:
            found.append(f"\nTo do: {visible(finding.advice)}", style="bold")
        table.add_row(Text(finding.state, style=styles[finding.state]), finding.check, found)
    return table

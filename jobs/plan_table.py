"""A plan on the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.plan import Plan
from jobs.plan_words import figures, stage_rows, sweep_rows
from ltx_ray.visible import visible


def table(plans: Sequence[Plan]) -> RenderableType:
    """The figures of one plan, or one line for each of several."""
    if len(plans) > 1:
        return _grid(*sweep_rows(plans))
    grid = Table.grid(padding=(0, 2))
    for name, value in figures(plans[0]):
        grid.add_row(Text(name, style="bold"), Text(visible(value)))
    return Group(grid, _grid(*stage_rows(plans[0])))


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    found = Table(box=None, pad_edge=False)
    for number, name in enumerate(head):
        found.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        found.add_row(*(Text(visible(cell)) for cell in row))
    return found

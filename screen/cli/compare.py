"""The command that compares two runs; with the other cli modules, what prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engines.command import DONE
from engines.sources.names import counted, printable

if TYPE_CHECKING:
    from screen.comparison.compare import Comparison

__all__ = ["compare"]

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("run_a", type=PATH)
@click.argument("run_b", type=PATH)
@click.option(
    "--count",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many of the cells that change call to show; --json has all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def compare(run_a: Path, run_b: Path, count: int, *, as_json: bool) -> int:
    """
    Say which cells and slides are called otherwise in RUN_B than in RUN_A, and by how much.

    Both are results folders of runs over the same cells: with two models, two decoders, before
    and after a change. Cells are the same if path and content are; others are counted and not
    compared.

    \b
    Example:
      slidescreen compare results-before results-after
    """
    from screen.comparison.compare import compared

    found = compared(run_a, run_b)
    if as_json:
        click.echo(json.dumps(found.record(), ensure_ascii=False))
    else:
        _print(found, count)
    return DONE


def _print(found: Comparison, count: int) -> None:
    """Print a comparison for a person."""
    for name, before, after in found.settings:
        click.echo(printable(f"{name}: {before} -> {after}"))
    click.echo(_coverage(found))
    if found.agreement is not None:
        click.echo(f"called the same: {found.agreement}, 95% interval by slides")
        click.echo(f"Cohen's kappa: {found.kappa or 'not defined, there is one class only'}")
    if found.mean_change is not None:
        click.echo(
            f"probability: changes by {found.mean_change:.4f} on average, at most by "
            f"{found.most_change:.4f}"
        )
    click.echo(f"{counted(len(found.cells), 'cell')} called otherwise")
    if found.cells and count:
        Console().print(_cell_table(found, count))
    changed = f"{len(found.slides):,} of {counted(found.slides_compared, 'slide')}"
    click.echo(f"{changed} flagged otherwise")
    if found.slides:
        Console().print(_slide_table(found))


def _coverage(found: Comparison) -> str:
    """Say which cells were compared, and which were not."""
    line = f"{counted(found.compared, 'cell')} scored in both"
    for number, words in (
        (found.only_first, "in the first run only"),
        (found.only_second, "in the second run only"),
        (found.other_file, "with another file"),
    ):
        if number:
            line += f"; not compared: {number:,} {words}"
    return line


def _cell_table(found: Comparison, count: int) -> Table:
    """Draw the cells that change most."""
    table = Table("cell", "before", "after", "change of probability", header_style="bold")
    for each in found.cells[:count]:
        change = "" if each.change is None else f"{each.change:+.4f}"
        values = (each.path, each.before or "not scored", each.after or "not scored", change)
        table.add_row(*(Text(printable(value)) for value in values))
    if len(found.cells) > count:
        table.caption = f"and {len(found.cells) - count:,} more"
    return table


def _slide_table(found: Comparison) -> Table:
    """Draw the slides that are flagged otherwise."""
    table = Table("slide", "flags before", "after", "share before", "after", header_style="bold")
    for each in found.slides:
        shares = ("" if s is None else f"{s:.1%}" for s in (each.share_before, each.share_after))
        flags = (", ".join(codes) or "none" for codes in (each.before, each.after))
        table.add_row(*(Text(printable(text)) for text in (each.slide, *flags, *shares)))
    return table

"""The command that finds similar cells; with the other cli modules, what prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engines.command import DONE
from engines.sources.names import printable

__all__ = ["similar"]


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--cell", required=True, metavar="PATH", help="The cell, as the results name it.")
@click.option(
    "--count", type=click.IntRange(1), default=20, show_default=True, help="How many to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def similar(results: Path, cell: str, count: int, *, as_json: bool) -> int:
    """
    Show the cells of RESULTS that the model finds most like one of them, the nearest first.

    Needs results of run --embeddings. The distance is Euclidean, between pooled features.

    \b
    Example:
      slidescreen run cells --out results --embeddings
      slidescreen similar results --cell slide-1/cell-007.png
    """
    from screen.similar import similar_cells

    found = similar_cells(results, cell, count)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        Console().print(_table(found))
    return DONE


def _table(found: list[dict[str, Any]]) -> Table:
    """Draw a row for each cell."""
    table = Table(header_style="bold")
    for name in found[0] if found else ("path",):
        table.add_column(name, overflow="fold")
    for row in found:
        texts = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values())
        table.add_row(*(Text(printable(text)) for text in texts))
    return table

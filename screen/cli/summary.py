"""What is printed at the end of a run: the slides, the counts, and where the files are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engines.sources.names import class_words, counted, printable
from screen.results.schema import METHODS
from screen.summary.flags import flag_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.locations import Location
    from screen.results.run_record import RunRecord

__all__ = ["print_summary", "slide_table"]

MOST_SLIDES = 40


def print_summary(out: Location, record: RunRecord, slides: Sequence[Mapping[str, Any]]) -> None:
    """Print the slides and where the files are, on stdout."""
    Console().print(slide_table(record, slides))
    counts, drift, rate = record.counts, record.drift, record.rates.end_to_end
    assert counts is not None
    assert drift is not None
    speed = f", {rate:,.1f} cells/s" if rate else ""
    click.echo(f"{counted(counts.cells, 'cell')}, {counts.bad:,} bad{speed}")
    if counts.unmatched:
        click.echo(f"without a slide: {counted(counts.unmatched, 'cell')}, in (unmatched)")
    if counts.other_files:
        examples = ", ".join(printable(name) for name in record.source.examples)
        click.echo(f"{counted(counts.other_files, 'other file')} left out, such as {examples}")
    if drift.measured and drift.sentence not in record.warnings:
        click.echo(drift.sentence)
    for warning in record.warnings:
        click.echo(f"Warning: {printable(warning)}")
    for name in ("cells/*.parquet", "slides.parquet", "run.json"):
        click.echo(f"  {printable(str(out / name))}")


def slide_table(run: RunRecord, slides: Sequence[Mapping[str, Any]]) -> Table:
    """Draw the slides: cells, bad cells, share positive with its interval, why to look."""
    model = run.model
    positive = model.positive and class_words(model.positive, model.display_names)
    method = "rogan_gladen" if run.trust.available else "wilson"
    table = Table(title_justify="left", title=counted(len(slides), "slide"), header_style="bold")
    table.add_column("slide", overflow="fold")
    table.add_column("cells", justify="right")
    table.add_column("bad", justify="right")
    if positive is not None:
        title = f"share of {positive} (95%, {METHODS[method]})"
        table.add_column(Text(title), justify="right")
    table.add_column("flags")
    for row in slides[:MOST_SLIDES]:
        name, bad = Text(printable(row["slide"])), row["n_cells"] - row["n_ok"]
        share = [_share(row, method)] if positive is not None else []
        flags = Text(printable(", ".join(flag_words(code, positive) for code in row["flags"])))
        table.add_row(name, f"{row['n_cells']:,}", f"{bad:,}", *share, flags)
    if len(slides) > MOST_SLIDES:
        table.caption = f"and {len(slides) - MOST_SLIDES:,} more in slides.parquet"
    return table


def _share(row: Mapping[str, Any], method: str) -> str:
    """Return a share with its interval, or that there is none."""
    if row["fraction_positive"] is None:
        return "no cell scored"
    name = "fraction_positive_rogan_gladen" if method == "rogan_gladen" else "fraction_positive"
    share = "unknown" if row[name] is None else f"{row[name]:.1%}"
    low, high = (row[f"fraction_positive_{method}95_{end}"] for end in ("low", "high"))
    return f"{share} ({low:.1%} to {high:.1%})"

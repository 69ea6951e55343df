"""The command that makes the report; with the other cli modules, what prints."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engines.sources.names import printable
from screen.cli.places import PLACE, RESULTS

if TYPE_CHECKING:
    from engines.locations import Location
    from screen.report import Report

__all__ = ["made_report", "report", "report_line"]


@click.command()
@click.argument("results", type=RESULTS)
@click.option(
    "--out",
    type=PLACE,
    show_default="report.html in RESULTS",
    help="The file to write.",
)
@click.option(
    "--labels",
    help="What the cells are, if it is known: a CSV or Parquet file (path, label), folders, "
    "cnmc, or a regular expression with (?P<label>...); adds accuracy, confusion, reliability.",
)
@click.option(
    "--source",
    type=PLACE,
    help="The folder of cells, if it was moved since.",
)
@click.option(
    "--review",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A review that the report's page saved (review.csv): its marks come back, and the report "
    "says how far they agree with the model.",
)
def report(results: Location, **options: Any) -> int:
    """
    Write the report of RESULTS: one HTML file that opens from disk and needs no network.

    \b
    Example:
      slidescreen report results
      slidescreen report results --labels labels.csv --out labelled.html
      slidescreen report results --review review.csv
    """
    made = made_report(results=results, **options)
    click.echo(report_line(made))
    if made.review:
        click.echo(made.review)
    return 0


def made_report(**options: Any) -> Report:
    """Write a report, as ``ReportOptions`` say, without Pillow's remarks on what it draws."""
    from screen.report import ReportOptions, write_report

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        return write_report(ReportOptions(**options))


def report_line(made: Report) -> str:
    """Say where it is, and how many of the cells in it have a picture."""
    pictures = made.pictures
    return (
        f"{printable(str(made.path))}: {made.size / 1e6:.1f} MB, "
        f"{pictures.drawn:,} of {pictures.wanted:,} chosen cells with a picture"
    )

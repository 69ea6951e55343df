"""The command that writes tables for other programs; with the other cli modules, what prints."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from engines.command import DONE, say
from engines.sources.names import counted
from screen.cli.places import RESULTS
from screen.export.formats import FORMATS, ExportOptions

if TYPE_CHECKING:
    from engines.locations import Location
    from screen.export.tables import Written

__all__ = ["export"]

STDOUT = Path("-")
BLOCK = 1 << 20  # bytes copied at a time
ENDINGS = {row.ending: name for name, row in FORMATS.items()}


@click.command()
@click.argument("results", type=RESULTS)
@click.option(
    "--to",
    type=click.Choice(list(FORMATS)),
    show_default="what --out ends in",
    help="The format.",
)
@click.option(
    "--out",
    "path",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    required=True,
    help="The file to write; - is standard output.",
)
@click.option("--slides", is_flag=True, help="Slides instead of cells.")
@click.option(
    "--slide", "wanted", multiple=True, metavar="NAME", help="This slide only; repeat for more."
)
@click.option("--force", is_flag=True, help="Replace a file that slidescreen did not write, too.")
def export(results: Location, path: Path, to: str | None, **asked: Any) -> int:
    """
    Write the tables of RESULTS for other programs.

    csv and xlsx hold single values (no evidence maps, no embeddings), parquet all columns. geojson
    holds cells that have a box, for QuPath; fiftyone is what fiftyone.Dataset.from_json reads.

    \b
    Example:
      slidescreen export results --out cells.csv
      slidescreen export results --slides --out slides.xlsx
      slidescreen export results --to parquet --out - > cells.parquet
    """
    from screen.export.write import write_export
    from screen.results.folder import ResultsFolder

    options = ExportOptions(to=to or _format_of(path), **asked)
    if path == STDOUT:
        written = _to_stdout(results, options)
    else:
        written = write_export(results, path, options)
    record = ResultsFolder(results).read_run()
    if record is None or record.state != "done":
        say("This run has not ended: these are the cells screened so far.")
    if written.left_out:
        say(f"left out: {counted(written.left_out, 'cell')} without a box")
    say(f"{counted(written.rows, 'row')} in {path}")
    return DONE


def _format_of(path: Path) -> str:
    """Return the format that a file's ending names."""
    found = ENDINGS.get(path.suffix.lower())
    if found is None:
        known = ", ".join(f"{ending} ({name})" for ending, name in ENDINGS.items())
        raise click.UsageError(f"name a format with --to, or let --out end in one of {known}")
    return found


def _to_stdout(results: Location, options: ExportOptions) -> Written:
    """Write a whole file, and only then copy it: formats have indices at their end."""
    from screen.export.write import write_export

    with TemporaryDirectory() as folder:
        scratch = Path(folder) / f"export{FORMATS[options.to].ending}"
        written = write_export(results, scratch, options)
        try:
            with scratch.open("rb") as file:
                for block in iter(partial(file.read, BLOCK), b""):
                    click.echo(block, nl=False)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # the reader has what it wanted; Python's own flush must not fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return written

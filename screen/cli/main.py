"""The command line ``slidescreen``; with the other cli modules, what prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click

from engines.command import DONE, MENDABLE, run_command, say
from engines.settings import SettingsGroup
from engines.sources.names import counted, printable
from screen.cli.bench import bench
from screen.cli.compare import compare
from screen.cli.engine import engine
from screen.cli.export import export
from screen.cli.large_runs import estimate, finish
from screen.cli.pack import pack
from screen.cli.places import RESULTS
from screen.cli.report import report
from screen.cli.run import run
from screen.cli.similar import similar

if TYPE_CHECKING:
    from engines.locations import Location

__all__ = ["cli", "main"]


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    run_command(cli, "slidescreen")


@click.group(
    cls=SettingsGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="slidescreen", prog_name="slidescreen")
def cli() -> None:
    """
    Screen folders of cell images: one row per cell, one row per slide, in Parquet.

    For research use only; not a medical device.

    \b
    Example:
      slidescreen run cells --out results
    """


@cli.command()
@click.argument("results", type=RESULTS)
def verify(results: Location) -> int:
    """
    Say whether every table of RESULTS is what was written, and holds the cells of the plan.

    Exits 1 if one is not; the same slidescreen run again then screens the cells of a damaged part.

    \b
    Example:
      slidescreen verify results
    """
    from screen.results.folder import ResultsFolder
    from screen.results.verify import verify as looked_at

    found = list(looked_at(ResultsFolder(results)))
    faults = [each.fault for each in found if each.fault]
    for fault in faults:
        click.echo(printable(fault))
    whole = len(found) - len(faults)
    click.echo(f"{whole:,} of {counted(len(found), 'table')} whole")
    return MENDABLE if faults else DONE


@cli.command()
def doctor() -> int:
    """
    Try out what works on this machine, and say what would bring the rest.

    Prints a line for each thing tried, in the first word of which is ok, absent or failed. Exits 1
    if what a run uses by itself does not work. With a GPU, the first time takes minutes: engines
    are built, which runs then use.

    \b
    Example:
      slidescreen doctor
    """
    from screen.doctor import examine

    broken = []
    for check in examine():
        remedy = f" -> {check.remedy}" if check.remedy else ""
        click.echo(printable(f"{check.outcome:7} {check.name}: {check.detail}{remedy}"))
        if check.needed and not check.works:
            broken.append(check.name)
    if broken:
        say(f"A run by the defaults does not work here: {', '.join(broken)}.")
        return MENDABLE
    return DONE


cli.add_command(run)
cli.add_command(finish)
cli.add_command(estimate)
cli.add_command(pack)
cli.add_command(engine)
cli.add_command(export)
cli.add_command(similar)
cli.add_command(compare)
cli.add_command(report)
cli.add_command(bench)

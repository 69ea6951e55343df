"""The commands ``slidescreen finish`` and ``estimate``, for runs beyond one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engines.command import DONE
from screen.cli.places import RESULTS
from screen.cli.report import made_report, report_line

if TYPE_CHECKING:
    from engines.locations import Location

__all__ = ["estimate", "finish"]


@click.command()
@click.argument("results", type=RESULTS)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    show_default="where it was when the run began",
    help="Model bundle.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print run.json and the slides as one object."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors, and --json's object.")
def finish(results: Location, *, model: Path | None, as_json: bool, quiet: bool) -> int:
    """
    End a run that was screened in parts (run --part): write its slides, run.json and report.

    Exits 1 and says what is missing, if parts are. It needs the results and the model, not the
    cells; the report has pictures only where the cells can be read.

    \b
    Example:
      slidescreen run cells --out results --part 1/2
      slidescreen run cells --out results --part 2/2
      slidescreen finish results
    """
    from screen.cli.summary import print_summary
    from screen.results.folder import ResultsFolder
    from screen.runners.part import finish as finished

    record = finished(results, model)
    written = made_report(results=results)
    slides = ResultsFolder(results).read_slides()
    if as_json:
        click.echo(json.dumps({**record.to_json(), "slides": slides}, ensure_ascii=False))
    elif not quiet:
        print_summary(results, record, slides)
        click.echo(f"  {report_line(written)}")
    return DONE


class CountType(click.ParamType[float]):
    """A number above 0, also as 1e9."""

    name = "NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            self.fail(f"{value!r} is not a number above 0", param, ctx)
        return number


COUNT = CountType()


@click.command()
@click.option("--cells", type=COUNT, required=True, help="How many cells, such as 1e9.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="How many GPUs.")
@click.option(
    "--cores",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Processor cores for each GPU; without GPUs, all of them.",
)
@click.option(
    "--gpu-rate",
    type=COUNT,
    default=5000,
    show_default=True,
    help="Cells a GPU scores a second: assumed, not measured.",
)
@click.option(
    "--cell-kb", type=COUNT, default=24, show_default=True, help="Size of a cell's file in kB."
)
@click.option(
    "--network",
    type=COUNT,
    default=2,
    show_default=True,
    help="Gbit/s to the cells for each GPU; without GPUs, in all.",
)
@click.option(
    "--per-file",
    type=COUNT,
    default=1,
    show_default=True,
    help="Cells in a file: 1, or as packed (slidescreen pack).",
)
@click.option(
    "--price",
    type=click.FloatRange(0),
    default=0,
    help="Of an hour of a GPU with its cores, or, without GPUs, of a core.",
)
def estimate(**asked: Any) -> int:
    """
    Work out how long a run of many cells may take: the slowest stage, hours, bytes, requests, cost.

    From constants that were measured on other machines than yours; what limits them is printed.

    \b
    Example:
      slidescreen estimate --cells 1e9 --gpus 64
      slidescreen estimate --cells 1e6 --cores 32
    """
    from screen.estimate import LIMITS, Machines
    from screen.estimate import estimate as worked_out

    machines = Machines(
        gpus=asked["gpus"],
        cores=asked["cores"],
        gpu_rate=asked["gpu_rate"],
        gbits=asked["network"],
        price=asked["price"],
    )
    found = worked_out(asked["cells"], 1000 * asked["cell_kb"], asked["per_file"], machines)
    for number, stage in enumerate(found.stages):
        click.echo(f"{stage.name}: {stage.rate:,.0f} cells/s{'' if number else ', the slowest'}")
    click.echo(f"time: {found.seconds / 3600:,.1f} hours at that rate")
    click.echo(f"read: {found.read_bytes / 1e12:,.3g} TB in {found.requests:,.0f} requests")
    click.echo(f"results: {found.result_bytes / 1e9:,.3g} GB in {found.writes:,.0f} files")
    if asked["price"]:
        click.echo(f"machines: {found.price:,.2f}")
    click.echo("\n".join(["Limits:", *LIMITS]))
    return DONE

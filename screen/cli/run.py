"""The command ``slidescreen run`` and its options."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engines.command import BAD_CELLS, DONE, ended_at_once, silent_libraries
from engines.decode.base import DEVICES
from engines.locations import location
from engines.models.bundle import DEFAULT_BUNDLE
from engines.registry import AUTO, decoder_names, runtime_names
from engines.runtime.base import PRECISIONS
from engines.sources.names import counted, printable
from screen.cli.places import PLACE, RESULTS, DeviceType, ShareType, SlideRuleType
from screen.cli.report import made_report, report_line
from screen.cli.source_options import named_sources, source_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from screen.options import RunOptions
    from screen.runners.events import Event

__all__ = ["run"]


@click.command()
@click.argument("source", nargs=-1, required=True, type=PLACE)
@source_options
@click.option(
    "--box-margin",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="PIXELS",
    help="Show so much around a box on a field image, too.",
)
@click.option(
    "--out",
    type=RESULTS,
    required=True,
    help="Results folder, or a URL (s3://bucket/results); an unfinished run in it goes on.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=DEFAULT_BUNDLE,
    show_default="the one that ships",
    help="Model bundle.",
)
@click.option(
    "--slide",
    type=SlideRuleType(),
    default="parent",
    show_default=True,
    help="Names a cell's slide: parent (its folder), cnmc (the subject of "
    "UID_<subject>_<image>_<cell>_<label>), or a regular expression with (?P<slide>...).",
)
@click.option(
    "--device",
    type=DeviceType(),
    default=AUTO,
    show_default=True,
    help="What the model runs on: auto, cpu, cuda, or cuda:1 for the second GPU.",
)
@click.option(
    "--decoder",
    type=click.Choice([AUTO, *decoder_names()]),
    default="auto",
    show_default=True,
    help="What decodes images.",
)
@click.option(
    "--decode-on",
    type=click.Choice([AUTO, *DEVICES]),
    default="auto",
    show_default=True,
    help="Where images are decoded; auto: where the model runs, if the decoder can.",
)
@click.option(
    "--runtime",
    type=click.Choice([AUTO, *runtime_names()]),
    default="auto",
    show_default=True,
    help="What runs the model.",
)
@click.option(
    "--precision",
    type=click.Choice([AUTO, *PRECISIONS]),
    default="auto",
    show_default=True,
    help="What it computes in; auto gives way to fp32 if parity misses.",
)
@click.option(
    "--batch-size",
    "batch",
    type=click.IntRange(1, 4096),
    show_default="256 on a GPU, else 4",
    help="Cells per inference.",
)
@click.option(
    "--shard-cells",
    type=click.IntRange(1),
    show_default="4096, at least 64 batches",
    help="Cells per part file, the unit of resume.",
)
@click.option(
    "--threads", type=click.IntRange(1), show_default="all cores", help="Processor threads."
)
@click.option(
    "--decode-workers",
    type=click.IntRange(0),
    show_default="half the cores; all where the model runs on a GPU",
    help="Processes that read and decode, within limits of time and memory for each cell; 0: "
    "threads of the main process do, without limits.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=25_000_000,
    show_default=True,
    help="An image of more is reported as oversized, not decoded.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="How often a cell's prediction set is to hold its true class.",
)
@click.option(
    "--flag-fraction",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Flag a slide from this share of positive cells, corrected for the model's errors.",
)
@click.option(
    "--flag-cells",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Flag a slide of fewer scored cells.",
)
@click.option(
    "--ood-level",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="A cell is out of distribution if at most this share of held-out cells is as strange.",
)
@click.option(
    "--embeddings",
    is_flag=True,
    help="Add a column embedding: the model's pooled features, for slidescreen similar.",
)
@click.option(
    "--part",
    type=ShareType(),
    help="Screen the K-th of N shares of the cells; slidescreen finish ends what N such commands "
    "(jobs, machines) did.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    show_default="one; with --ray one for each GPU or node",
    help="Processes that screen, a GPU or a share of the processors each, by Ray.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Use the Ray cluster there (HOST:PORT, or auto), not one for this machine.",
)
@click.option("--restart", is_flag=True, help="Discard an earlier run in --out.")
@click.option(
    "--update",
    is_flag=True,
    help="Score what is new or changed since the run in --out ended, and take out what is gone.",
)
@click.option(
    "--retry-unreadable",
    is_flag=True,
    help="Screen the parts again that hold cells which could not be read.",
)
@click.option(
    "--allow-unreadable",
    is_flag=True,
    help="Go on where the source seems to be gone: each of its cells is a row that says so.",
)
@click.option("--fail-on-bad", is_flag=True, help="Exit 3 if any cell could not be scored.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print run.json and the slides as one object."
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors, and --json's object.")
@click.option("--report", "and_report", is_flag=True, help="Write report.html, too.")
def run(*, fail_on_bad: bool, as_json: bool, quiet: bool, and_report: bool, **options: Any) -> int:
    """
    Screen every cell image of SOURCE.

    A SOURCE is a folder, with the folders in it; an image file; a tar file, WebDataset shard or
    zip file; a Parquet file with images in it; a manifest (CSV or Parquet) of image files or of
    boxes on field images; boxes as QuPath's GeoJSON or COCO; a pattern in quotes, such as
    'slides/*/cells'; or - for such names on standard input, one a line. Several are screened as
    one. Interrupted, the same command goes on where it stopped. Bad images are rows with a reason.

    \b
    Example:
      slidescreen run cells --out results --slide cnmc
      slidescreen run monday tuesday --out results --exclude 'thumb_*'
      slidescreen run 'shards/cells-*.tar' --out results
    """
    import screen
    from screen.cli.progress import show_events, show_logs
    from screen.cli.summary import print_summary
    from screen.results.folder import ResultsFolder, is_report
    from screen.summary.flags import Thresholds

    warnings.filterwarnings("ignore", module=r"PIL\.")  # what it would warn of is in the cell's row
    given = {name: value for name, value in options.items() if value is not None}
    given["source"] = named_sources(given["source"])
    thresholds = Thresholds(
        fraction=given.pop("flag_fraction"),
        cells=given.pop("flag_cells"),
        ood_level=given.pop("ood_level"),
    )
    if given["restart"] and given["update"]:
        raise click.UsageError("--restart begins anew, --update goes on: give one of them")
    if "part" in given and (and_report or given["restart"] or given["update"]):
        raise click.UsageError("--part goes with neither --report, --restart nor --update")
    if {"workers", "ray"} & given.keys() and ("part" in given or ":" in given["device"]):
        raise click.UsageError("--workers and --ray go with neither --part nor --device cuda:N")
    asked = screen.RunOptions(**given, thresholds=thresholds)
    out = location(asked.out)
    and_report = and_report or (asked.update and is_report(ResultsFolder(out).report))
    console = Console(stderr=True)
    silence = silent_libraries() if quiet else nullcontext()
    with ended_at_once() as ready, show_logs(console, quiet=quiet), silence:
        record = show_events(_noted(screen.run(asked), ready), console, quiet=quiet)
    if asked.part is not None:
        return _part_done(asked, fail_on_bad=fail_on_bad, as_json=as_json, quiet=quiet)
    written = made_report(results=out) if and_report else None
    slides = ResultsFolder(out).read_slides()
    if as_json:
        click.echo(json.dumps({**record.to_json(), "slides": slides}, ensure_ascii=False))
    elif not quiet:
        print_summary(out, record, slides)
        if written:
            click.echo(f"  {report_line(written)}")
    return BAD_CELLS if fail_on_bad and record.counts and record.counts.bad else DONE


def _noted(events: Iterator[Event], ready: Callable[[], None]) -> Iterator[Event]:
    """Hand events on; say *ready* once the run has started and has to be left in order."""
    from screen.runners.events import Started

    for event in events:
        if isinstance(event, Started):
            ready()
        yield event


def _part_done(asked: RunOptions, *, fail_on_bad: bool, as_json: bool, quiet: bool) -> int:
    """Say what one part of a run came to."""
    from engines.json_records import record_to_json
    from screen.results.folder import ResultsFolder
    from screen.results.worker_records import read_share_record

    assert asked.part is not None
    out = location(asked.out)
    record = read_share_record(ResultsFolder(out), asked.part)
    assert record is not None
    if as_json:
        click.echo(json.dumps(record_to_json(record), ensure_ascii=False))
    elif not quiet:
        cells = counted(record.worker.cells, "cell")
        click.echo(f"part {asked.part} is done: {cells}, {record.worker.bad:,} bad")
        click.echo(f"when all parts are: slidescreen finish {printable(str(out))}")
    return BAD_CELLS if fail_on_bad and record.worker.bad else DONE

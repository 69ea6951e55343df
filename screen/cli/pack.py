"""The command that packs cells into shards; with the other cli modules, what prints."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from engines.command import DONE, say
from engines.sources.names import counted
from screen.cli.places import PLACE
from screen.cli.source_options import named_sources, source_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engines.locations import Location
    from screen.packing.pack import Packed

__all__ = ["pack"]

MEGABYTE = 10**6
SECONDS_BETWEEN_LINES = 10.0


@click.command()
@click.argument("source", nargs=-1, required=True, type=PLACE)
@click.option(
    "--out",
    type=PLACE,
    required=True,
    help="cells-%05d.tar or cells-%05d.parquet, %05d being the number of a shard; without it one "
    "file. A path or a URL.",
)
@source_options
@click.option(
    "--shard-cells",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Most cells of a shard.",
)
@click.option(
    "--shard-mb",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="A shard of so many megabytes takes no further cell.",
)
@click.option(
    "--skip-unreadable",
    is_flag=True,
    help="Name cells that cannot be read, and leave them out; otherwise the first is an error.",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def pack(
    *, source: Sequence[Location], out: Location, shard_mb: int, quiet: bool, **asked: Any
) -> int:
    """
    Pack the cells of SOURCE, many small files, into shards that are read faster.

    SOURCE is what slidescreen run takes. Cells keep their paths and their bytes, so results from
    the shards are those from SOURCE. A tar shard is what WebDataset reads: labels are in .cls, what
    else a manifest says in .json. A Parquet shard is what Hugging Face's datasets reads: a column
    image with bytes and path, and a column for whatever a manifest says.

    \b
    Example:
      slidescreen pack cells --out shards/cells-%05d.tar
      slidescreen run 'shards/cells-*.tar' --out results
    """
    from engines.sources import Selection, SourceOptions, open_source
    from screen.cli.progress import show_logs
    from screen.packing.pack import PackOptions, pack

    reading = SourceOptions(
        selection=Selection(asked.pop("include"), asked.pop("exclude")),
        columns=asked.pop("columns"),
    )
    options = PackOptions(out=out, shard_bytes=shard_mb * MEGABYTE, **asked)
    console = Console(stderr=True)
    with show_logs(console, quiet=quiet):
        progress = pack(open_source(named_sources(source), reading), options)
        packed = _shown(progress, console, quiet=quiet)
    if packed.left_out:
        say(f"left out: {counted(packed.left_out, 'cell')} that could not be read")
    if not quiet:
        say(f"{_words(packed)} in {counted(packed.shards, 'shard')}, {out}")
    return DONE


def _shown(progress: Iterable[Packed], console: Console, *, quiet: bool) -> Packed:
    """Pack, and show how far it is: on a terminal beside a spinner, elsewhere in lines."""
    packed = None
    last = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    shown = console.is_terminal and not quiet
    with Progress(*columns, console=console, transient=True, disable=not shown) as bar:
        task = bar.add_task("listing")
        for packed in progress:
            if shown:
                bar.update(task, description=_words(packed))
            elif not quiet and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                say(_words(packed))
    assert packed is not None
    return packed


def _words(packed: Packed) -> str:
    """Say how much is packed."""
    return f"{counted(packed.cells, 'cell')}, {packed.size / MEGABYTE:,.0f} MB"

"""The command that measures this machine; with the other cli modules, what prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from engines.command import DONE
from engines.models.bundle import DEFAULT_BUNDLE
from engines.registry import AUTO, decoder_names, runtime_names
from engines.runtime.base import PRECISIONS
from engines.sources.names import counted, printable
from screen.cli.places import PLACE, DeviceType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.locations import Location
    from screen.bench.measure import Bench

__all__ = ["bench"]

GIB = 2**30
KB = 1000
MB = 1000**2
HOUR_S = 3600
MILLION = 1_000_000


@click.command()
@click.argument("source", nargs=-1, type=PLACE)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Cells to measure with, spread over SOURCE; more give steadier numbers.",
)
@click.option(
    "--model",
    type=click.Path(),
    default=DEFAULT_BUNDLE,
    show_default="the one that ships",
    help="Model bundle.",
)
@click.option("--device", type=DeviceType(), help="As of run.")
@click.option("--decoder", type=click.Choice([AUTO, *decoder_names()]), help="As of run.")
@click.option("--runtime", type=click.Choice([AUTO, *runtime_names()]), help="As of run.")
@click.option("--precision", type=click.Choice([AUTO, *PRECISIONS]), help="As of run.")
@click.option("--batch-size", "batch", type=click.IntRange(1, 4096), help="As of run.")
@click.option("--threads", type=click.IntRange(1), help="As of run.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(source: tuple[Location, ...], count: int, *, as_json: bool, **how: Any) -> int:
    """
    Measure what this machine does with the cells of SOURCE, and say what limits it.

    Some of its cells are copied to the system's temporary folder and screened there as run would;
    without a SOURCE, cells are drawn. Each stage is measured alone: reading from the source,
    decoding, the network, writing a part; then all together. Nothing is kept.

    \b
    Example:
      slidescreen bench cells
      slidescreen bench --count 1000 --threads 4
    """
    from screen.bench.advice import advice
    from screen.bench.measure import BenchOptions
    from screen.bench.measure import bench as measured
    from screen.cli.progress import show_logs

    given = {name: value for name, value in how.items() if value is not None}
    with show_logs(Console(stderr=True), quiet=as_json):
        found = measured(BenchOptions(source=source, count=count, how=given))
    if as_json:
        click.echo(json.dumps(_as_json(found, advice(found)), ensure_ascii=False))
        return DONE
    for line in (*_lines(found), *(f"- {sentence}" for sentence in advice(found))):
        click.echo(printable(line))
    return DONE


def _lines(found: Bench) -> Iterator[str]:
    """Yield what was measured, a line each."""
    choices, material, rates = found.record.choices, found.material, found.record.rates
    drawn = "" if material.seconds else "drawn "
    size = material.size / material.cells
    yield f"cells     {material.cells:,} {drawn}cells, {size / KB:,.0f} kB each"
    yield f"start-up  {found.start_up:.1f} s"
    if found.read and material.seconds:
        mb = material.size / MB / material.seconds
        yield f"read      {found.read:,.0f} cells/s, {mb:,.0f} MB/s"
    threads = counted(choices.threads.value, "thread")
    decoder = f"{found.record.decoder} on the {choices.decode_on.value}, {threads}"
    engine = f"{found.record.runtime}, {choices.precision.value}, batch {choices.batch.value}"
    yield f"decode    {_rate(rates.decode)} ({decoder})"
    yield f"engine    {_rate(rates.runtime)} ({engine})"
    yield f"write     {_rate(found.write)}"
    shared = ", decoding and network on the same cores" if found.shared_cores else ""
    yield f"together  {_rate(rates.end_to_end)}, at best {_rate(found.at_best)}{shared}"
    if found.peak and found.memory:
        yield f"memory    {found.peak / GIB:.1f} of {found.memory / GIB:.1f} GiB"
    if rates.end_to_end:
        yield f"a million cells take {MILLION / rates.end_to_end / HOUR_S:,.1f} hours"
    yield f"limited by {found.limit or 'nothing that could be measured'}"


def _rate(rate: float | None) -> str:
    """Write cells per second."""
    return "not measured" if not rate else f"{rate:,.0f} cells/s"


def _as_json(found: Bench, sentences: list[str]) -> dict[str, Any]:
    """Return the same for programs; rates in cells/s, sizes in bytes, times in seconds."""
    record = found.record
    return {
        "cells": found.material.cells,
        "bytes": found.material.size,
        "drawn": found.material.seconds is None,
        "start_up_s": found.start_up,
        "rates": {**found.stages, "together": record.rates.end_to_end, "at_best": found.at_best},
        "peak_bytes": found.peak,
        "memory_bytes": found.memory,
        "load": found.load,
        "cores": found.cores,
        "choices": record.choices.values(),
        "decoder": record.decoder,
        "runtime": record.runtime,
        "limit": found.limit,
        "advice": sentences,
    }

"""Measure a short run as every run is made, and say which stage limits it and what would help."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.hardware.machine import memory_of_machine, peak_memory, usable_cores
from engines.registry import GPU, runtime_row
from screen.bench.material import copied_cells, drawn_cells
from screen.options import RunOptions
from screen.results.folder import ResultsFolder
from screen.results.tables import read_table, write_table
from screen.runners.events import Finished, Started
from screen.runners.local import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.locations import Location
    from screen.bench.material import Material
    from screen.results.run_record import RunRecord

__all__ = ["Bench", "BenchOptions", "bench"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """
    What to measure.

    Attributes:
        source: Where cells are; drawn ones if there is none.
        count: How many cells, spread over the source.
        how: Options of ``screen.RunOptions`` that say how to run: model, decoder, threads, ...
    """

    source: Sequence[Location] = ()
    count: int = 256
    how: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """
    What was measured; rates are cells per second.

    Attributes:
        material: The cells.
        record: The run.json of the run over them.
        start_up: Seconds until the first cell: opening the model, and checks on 64 cells.
        read: Reading from the source, in as many threads as the run has; None for drawn cells.
        write: Writing a part, flushed to the disk.
        peak: Bytes of memory at most, decoding processes included; None where it is not told.
        memory: Bytes of memory of the machine; likewise.
        load: Processes that wanted a core in the minute before; None where it is not told.
        cores: That may be used.
    """

    material: Material
    record: RunRecord
    start_up: float
    read: float | None
    write: float
    peak: int | None
    memory: int | None
    load: float | None
    cores: int

    @property
    def shared_cores(self) -> bool:
        """Whether decoding and the model work on the same processor."""
        return runtime_row(self.record.choices.runtime.value).device != GPU

    @property
    def stages(self) -> dict[str, float]:
        """The rate of every stage alone, as far as it was measured."""
        rates = self.record.rates
        found = {
            "read": self.read,
            "decode": rates.decode,
            "engine": rates.runtime,
            "write": self.write,
        }
        return {name: rate for name, rate in found.items() if rate}

    @property
    def at_best(self) -> float | None:
        """What all stages together could reach, if none hindered another."""
        rates = self.stages
        if self.shared_cores and {"decode", "engine"} <= rates.keys():
            rates["engine"] = 1 / (1 / rates.pop("decode") + 1 / rates["engine"])
        return min(rates.values(), default=None)

    @property
    def limit(self) -> str | None:
        """The stage that limits: the slowest."""
        rates = self.stages
        return min(rates, key=lambda name: rates[name], default=None)


def bench(options: BenchOptions) -> Bench:
    """
    Screen some cells in a temporary folder, as ``slidescreen run`` would, and measure.

    Raises:
        UserError: As ``screen.run``; or if no cell of the source can be read.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    threads = options.how.get("threads") or usable_cores()
    with tempfile.TemporaryDirectory(prefix="slidescreen-bench-") as scratch:
        cells, results = Path(scratch, "cells"), Path(scratch, "results")
        if options.source:
            material = copied_cells(options.source, options.count, cells, threads)
        else:
            material = drawn_cells(options.count, cells)
        record, start_up = _screened(RunOptions(source=cells, out=results, **options.how))
        return Bench(
            material=material,
            record=record,
            start_up=start_up,
            read=material.cells / material.seconds if material.seconds else None,
            write=_write_rate(ResultsFolder(results)),
            peak=peak_memory(),
            memory=memory_of_machine(),
            load=load,
            cores=usable_cores(),
        )


def _screened(options: RunOptions) -> tuple[RunRecord, float]:
    """Run; return run.json, and the seconds until the start was made."""
    begun = started = time.perf_counter()
    record = None
    for event in run(options):
        if isinstance(event, Started):
            started = time.perf_counter()
        elif isinstance(event, Finished):
            record = event.record
    assert record is not None  # a run ends so, or raises
    return record, started - begun


def _write_rate(results: ResultsFolder) -> float:
    """Write the first part once more, beside it; return cells/s."""
    table = read_table(results.part(0))
    start = time.perf_counter()
    write_table(table, results.path / "again.parquet", {})
    cells: int = table.num_rows
    return cells / max(time.perf_counter() - start, 1e-9)

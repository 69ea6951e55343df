"""
``slidescreen run`` against the loop that timm's users write, whole process against whole process.

Both screen the same 5,000 JPEG crops (hard links of 300 real ones under names of their own), with
the same weights, on all cores, and write a file of results. Measured is the wall clock from the
start of the process to its exit, start-up included. slidescreen starts with its ONNX file in the
cache, as every run but the first one does; it also plans, checks itself against PyTorch, hashes
every file and writes Parquet in that time. Files are warm in the page cache for everybody.

The loop (``timm_loop.py``) is given its best settings: first every batch size and number of
DataLoader workers is tried on a few cells in each mode, and the fastest runs the race. Modes are
float32 as timm gives it, and channels-last with bfloat16, by autocast or by bfloat16 weights,
whichever is faster. They take turns with slidescreen; printed are medians and their ratios. At the
end the predicted classes are compared cell by cell: both must do the same job.

``--cells-limit N`` lets the loop stop after N cells and extrapolates, and says so in the table.

    python benchmarks/against_timm.py
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from material import linked, parser, pictures
from page import print_setting, print_table
from whole_run import slidescreen

import screen
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping

LOOP = Path(__file__).with_name("timm_loop.py")
GOALS = {"float32": 5, "channels-last bf16": 2}
MODES = {
    "float32": [()],
    "channels-last bf16": [
        ("--channels-last", "--bf16", "autocast"),
        ("--channels-last", "--bf16", "weights"),
    ],
}
BATCHES = (8, 32, 64)
WORKERS = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """The timm loop with its settings."""

    flags: tuple[str, ...]
    batch: int
    workers: int
    limit: int

    def __str__(self) -> str:
        """Say the settings."""
        flags = " ".join(self.flags) or "no flags"
        return f"{flags}, batch {self.batch}, {self.workers} workers"

    def run(self, source: Path, table: Path) -> tuple[float, float, int]:
        """Return the seconds of the whole process, of its loop, and the cells scored."""
        command = [sys.executable, str(LOOP), str(source), "--model", str(DEFAULT_BUNDLE)]
        command += ["--csv", str(table), "--batch-size", str(self.batch), *self.flags]
        command += ["--workers", str(self.workers), "--limit", str(self.limit)]
        start = time.perf_counter()
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        seconds = time.perf_counter() - start
        said = json.loads(printed.splitlines()[-1])
        return seconds, said["loop_s"], said["cells"]


def main() -> None:
    """Race and print."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = linked(pictures(given.cells, "cnmc-jpeg"), folder / "cells", given.count)
        loops = {mode: _best(mode, source, folder, given.tune) for mode in MODES}
        loops = {mode: replace(loop, limit=given.cells_limit) for mode, loop in loops.items()}
        times = _race(loops, source, folder, given)
        _print_times(times, loops, given.count, given.cells_limit)
        _print_agreement(folder, loops)
    print_setting(small=given.small)


def _arguments() -> Namespace:
    """Read the command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=5000, help="cells")
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--tune", type=int, default=256, help="cells to find settings on")
    arguments.add_argument("--cells-limit", type=int, help="cells that the timm loop stops after")
    given = arguments.parse_args()
    if given.small:
        given.count, given.turns, given.tune = 64, 1, 16
    given.cells_limit = min(given.cells_limit or given.count, given.count)
    return given


def _best(mode: str, source: Path, folder: Path, cells: int) -> Loop:
    """Try the settings of a mode on a few cells; return those whose loop is fastest."""
    seconds = {}
    for flags, batch, workers in itertools.product(MODES[mode], BATCHES, WORKERS):
        loop = Loop(flags=flags, batch=batch, workers=workers, limit=cells)
        _, seconds[loop], scored = loop.run(source, folder / "tuning.csv")
        print(f"trying {loop}: {scored / seconds[loop]:.1f} cells/s", flush=True)
    return min(seconds, key=seconds.__getitem__)


def _race(
    loops: Mapping[str, Loop], source: Path, folder: Path, given: Namespace
) -> dict[str, list[float]]:
    """Let everybody run in turn, then again; return the seconds of each whole process."""
    slidescreen(source, folder / "warm-up")
    times: dict[str, list[float]] = {"slidescreen": [], **{mode: [] for mode in loops}}
    for turn in range(given.turns):
        times["slidescreen"].append(slidescreen(source, folder / f"results-{turn}").seconds)
        for mode, loop in loops.items():
            whole, inside, scored = loop.run(source, folder / f"{mode}.csv")
            times[mode].append(whole + inside * (given.count / scored - 1))
        said = ", ".join(f"{name} {seconds[-1]:.0f} s" for name, seconds in times.items())
        print(
            f"turn {turn + 1} of {given.turns}: {said}; load {os.getloadavg()[0]:.1f}", flush=True
        )
    return times


def _print_times(
    times: Mapping[str, list[float]], loops: Mapping[str, Loop], count: int, limit: int
) -> None:
    """Print medians and ratios."""
    ours = times["slidescreen"]
    rows = [["slidescreen run", f"{median(ours):.1f}", f"{count / median(ours):.0f}", "", "", ""]]
    for mode, loop in loops.items():
        seconds = median(times[mode])
        pairs = zip(times[mode], ours, strict=True)
        ratio = f"{median(theirs / our for theirs, our in pairs):.2f}"
        goal = f"at least {GOALS[mode]}"
        rows.append(
            [f"timm, {mode}", f"{seconds:.1f}", f"{count / seconds:.0f}", ratio, goal, str(loop)]
        )
    note = "" if limit == count else f"; timm EXTRAPOLATED from {limit} cells"
    header = ("whole process", "seconds", "cells/s", "slidescreen is faster", "goal", "settings")
    print_table(f"{count} JPEG crops{note}", header, rows)


def _print_agreement(folder: Path, loops: Iterable[str]) -> None:
    """Count the cells on whose class both agree."""
    results = screen.open_results(folder / "results-0").to_table(columns=["path", "predicted"])
    ours = {row["path"].rpartition("/")[2]: row["predicted"] for row in results.to_pylist()}
    classes = ModelBundle.load(DEFAULT_BUNDLE).classes
    for mode in loops:
        with (folder / f"{mode}.csv").open(newline="") as file:
            theirs = {row[0]: classes[int(row[1])] for row in csv.reader(file)}
        agreeing = sum(ours[name] == called for name, called in theirs.items())
        print(f"{mode}: the same class for {agreeing} of {len(theirs)} cells")


if __name__ == "__main__":
    main()

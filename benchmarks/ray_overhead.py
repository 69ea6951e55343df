"""
What Ray costs: one worker against no Ray, and two workers against one process with two threads.

The same drawn cells (hard links) are screened by the shipped model in each way, in turn. Counted
are the cells on disk from the first event that says that screening began to the last shard, so
that starting (Ray, workers, checks) is apart. Each way has the same threads in all; ratios are of
rates within this run. The mean of the turns is taken, since a busy machine disturbs all alike.

Example:
    python benchmarks/ray_overhead.py --cells 20000 --turns 2
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from draw_cells import draw_cell

import screen
from screen.runners.events import ShardDone, Started

DRAWN = 64


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--shard-cells", type=int, default=4096)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cells = made(Path(folder) / "cells", asked.cells)
        base = screen.RunOptions(
            source=cells, out=Path(folder) / "out", restart=True, shard_cells=asked.shard_cells
        )
        ways = {
            "no Ray, 2 threads": replace(base, threads=2),
            "1 worker, 2 threads": replace(base, threads=2, workers=1),
            "2 workers, 1 thread each": replace(base, threads=1, workers=2),
        }
        turns = [{name: measured(way) for name, way in ways.items()} for _ in range(asked.turns)]
    print(f"{asked.cells:,} cells, {asked.turns} turns, load {os.getloadavg()[0]:.1f}")
    first = next(iter(ways))
    for name in ways:
        rate = fmean(turn[name][1] for turn in turns)
        start = fmean(turn[name][0] for turn in turns)
        ratio = fmean(turn[name][1] / turn[first][1] for turn in turns)
        print(f"{name:26} {rate:8.1f} cells/s  {ratio:5.2f} of no Ray  start-up {start:5.1f} s")


def made(folder: Path, count: int) -> Path:
    """Draw some cells and link them to *count* names in four folders."""
    drawn = folder.parent / "drawn"
    drawn.mkdir()
    for number in range(min(DRAWN, count)):
        draw_cell(number, (450, 450)).save(drawn / f"{number}.jpg", quality=92)
    for number in range(count):
        slide = folder / f"slide{number % 4}"
        slide.mkdir(parents=True, exist_ok=True)
        os.link(drawn / f"{number % DRAWN}.jpg", slide / f"{number:07d}.jpg")
    return folder


def measured(options: screen.RunOptions) -> tuple[float, float]:
    """Return seconds until screening began, and cells/s from then to the last shard."""
    since = began = last = time.perf_counter()
    cells = 0
    for event in screen.run(options):
        if isinstance(event, Started):
            began = time.perf_counter()
        elif isinstance(event, ShardDone):
            last = time.perf_counter()
            cells += event.scored + event.faults
    return began - since, cells / (last - began)


if __name__ == "__main__":
    main()

"""
Resident memory of a long run.

A run: ``slidescreen run`` over 50,000 cells (hard links of 300 real JPEG crops) as a process of its
own. Every half second the resident sets of the process and of all its children are read from /proc
and added up, which counts shared pages more than once: the sum is never too small. Screening begins
when run.json appears, after the checks against PyTorch; given are the medians around its start,
quarter, half and end, and the peak from the very start of the process.

    python benchmarks/memory.py
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from material import REPOSITORY, linked, parser, pictures
from page import print_setting, print_table
from whole_run import run_command

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence


GIB = 2**30
MIB = 2**20
RUN_GOAL = 2.5  # GiB
INTERVAL_S = 0.5
STAGES = {"start": 0.0, "quarter": 0.25, "half": 0.5, "end": 1.0}
WINDOW = 0.02  # of the samples, the median of which stands for a stage


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a run: while it screened, in order of time, and at most ever."""

    screening: Sequence[int]
    peak: int

    def at(self, share: float) -> float:
        """Return MiB when *share* of the screening was done."""
        width = max(1, int(len(self.screening) * WINDOW))
        first = min(int(share * len(self.screening)), len(self.screening) - width)
        return median(self.screening[first : first + width]) / MIB


def main() -> None:
    """Measure and print."""
    given = _arguments()
    count = 256 if given.small else given.count
    with tempfile.TemporaryDirectory() as scratch:
        _print_run(count, _run(given.cells, Path(scratch), count))
    print_setting(small=given.small)


def _arguments() -> Namespace:
    """Read the command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=50_000, help="cells of the run")
    return arguments.parse_args()


def _run(cells: Path, scratch: Path, count: int) -> Memory:
    """Run over *count* cells, watching."""
    source = linked(pictures(cells, "cnmc-jpeg"), scratch / "cells", count)
    out = scratch / "results"
    before: list[int] = []
    screening: list[int] = []
    with subprocess.Popen(run_command(source, out), cwd=REPOSITORY) as process:
        while process.poll() is None:
            samples = screening if (out / "run.json").exists() else before
            samples.append(_resident(process.pid))
            time.sleep(INTERVAL_S)
    if process.returncode:
        raise SystemExit(f"the run failed with status {process.returncode}")
    screening.pop()  # it may have been taken from a process that was ending
    return Memory(screening, max(before + screening))


def _resident(pid: int) -> int:
    """Add up the resident sets of a process and its descendants; 0 for what has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        threads = Path(f"/proc/{pid}/task").iterdir()
        children = [int(pid) for task in threads for pid in (task / "children").read_text().split()]
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGESIZE") + sum(map(_resident, children))


def _print_run(count: int, memory: Memory) -> None:
    """Print the stages, the growth and the peak."""
    stages = [f"{memory.at(share):.0f}" for share in STAGES.values()]
    growth = f"{memory.at(STAGES['end']) - memory.at(STAGES['quarter']):+.0f}"
    peak = f"{memory.peak / MIB:.0f} ({memory.peak / GIB:.2f} GiB)"
    print_table(
        f"slidescreen run over {count} cells, resident MiB (goal: flat, under {RUN_GOAL} GiB)",
        (*STAGES, "growth from quarter to end", "peak", "samples"),
        [[*stages, growth, peak, len(memory.screening)]],
    )


if __name__ == "__main__":
    main()

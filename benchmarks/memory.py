"""
Resident memory of a long run, and of planning a million names.

A run: ``slidescreen run`` over 50,000 cells (hard links of 300 real JPEG crops) as a process of its
own. Every half second the resident sets of the process and of all its children are read from /proc
and added up, which counts shared pages more than once: the sum is never too small. Screening begins
when run.json appears, after the checks against PyTorch; given are the medians around its start,
quarter, half and end, and the peak from the very start of the process.

Planning: listing, cutting into shards, writing plan.parquet, reading it back and walking through
its shards, as a run and its resume do, in a process of its own; its peak is what the kernel says
(ru_maxrss). Once over a source that only makes names up, as C-NMC's files are called, and once over
a real folder tree of as many hard links, a thousand to a folder.

    python benchmarks/memory.py
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from material import REPOSITORY, linked, parser, pictures
from page import print_setting, print_table
from whole_run import run_command

from engines.sources import Entry, Listing, open_source
from engines.sources.slide_rule import SlideRule
from screen.options import SHARD_CELLS
from screen.results.folder import ResultsFolder
from screen.results.plan import read_plan
from screen.results.planning import plan_source
from screen.results.schema import FINGERPRINT_KEY

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from engines.cells import CellRef
    from engines.sources import Source

GIB = 2**30
MIB = 2**20
RUN_GOAL, PLAN_GOAL = 2.5, 1.0  # GiB
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


class MadeUp:
    """A Source that holds *count* names and nothing else."""

    location = name = "made-up"
    locations = ()
    carried = MappingProxyType[str, Any]({})

    def __init__(self, count: int) -> None:
        """Hold that many."""
        self._count = count

    def list(self) -> Listing:
        """Name them, in order, as C-NMC names its cells, a thousand to a folder."""
        numbers = range(self._count)
        return Listing(
            Entry(f"{i // 1000:06d}/UID_{i // 1000}_{i % 1000}_{i % 7}_all.bmp", "", 600_000, i)
            for i in numbers
        )

    def read(self, ref: CellRef) -> bytes:
        """Nothing here can be read."""
        raise FileNotFoundError(ref.path)

    def size(self, ref: CellRef) -> int | None:
        """Nothing here is there."""
        del ref


def main() -> None:
    """Measure and print."""
    given = _arguments()
    if given.plan:
        _plan(given)
        return
    count, names = (256, 2000) if given.small else (given.count, given.names)
    with tempfile.TemporaryDirectory() as scratch:
        _print_run(count, _run(given.cells, Path(scratch), count))
        _print_planning(names, _planning(given.cells, Path(scratch), names))
    print_setting(small=given.small)


def _arguments() -> Namespace:
    """Read the command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=50_000, help="cells of the run")
    arguments.add_argument("--names", type=int, default=1_000_000, help="names to plan")
    arguments.add_argument("--plan", metavar="FOLDER", help="only plan, in this process")
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


def _planning(cells: Path, scratch: Path, names: int) -> dict[str, list[str]]:
    """Plan names made up and names on disk, each in a process of its own."""
    tree = linked(pictures(cells, "cnmc-jpeg"), scratch / "tree", names)
    found = {}
    for title, folder in (("made-up names", ""), ("a folder tree", str(tree))):
        command = [sys.executable, __file__, "--names", str(names), f"--plan={folder or '-'}"]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[title] = printed.split()
    return found


def _plan(given: Namespace) -> None:
    """Plan as a run and its resume do; print cells, seconds, MiB once imported, MiB at most."""
    imported = _peak_mib()
    source: Source = MadeUp(given.names) if given.plan == "-" else open_source(Path(given.plan))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        results = ResultsFolder(Path(out))
        plan = plan_source(source, SlideRule(), SHARD_CELLS)
        plan.write(results.plan, {FINGERPRINT_KEY: b"benchmark"})
        next(plan.spread(64))
        cells = sum(len(shard.refs) for shard in read_plan(results).shards())
    print(cells, f"{time.perf_counter() - start:.1f}", f"{imported:.0f}", f"{_peak_mib():.0f}")


def _peak_mib() -> float:
    """Return the most this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _print_planning(names: int, found: dict[str, list[str]]) -> None:
    """Print one row for each source."""
    header = ("source", "cells", "seconds", "MiB before", "peak MiB")
    rows = [[title, *numbers] for title, numbers in found.items()]
    print_table(f"Planning {names} names (goal: peak under {PLAN_GOAL:g} GiB)", header, rows)


if __name__ == "__main__":
    main()

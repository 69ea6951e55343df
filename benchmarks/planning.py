"""
Seconds and memory of planning a million names and ten million, and of looking back at them.

Planning is listing a source, cutting it into shards, writing plan.parquet, reading it back and
walking through its shards, as a run and its resume do. Looking back is what a finished run does
that is asked again: it lists the source once more, and holds it against the plan. Each is done in a
process of its own; its peak is what the kernel says (ru_maxrss), its growth is what comes on top of
the imports. Sources: names that are only made up, as C-NMC's files are called, a thousand to a
folder; a manifest (CSV) of such names; and a real folder tree of hard links (``--tree``).

    python benchmarks/planning.py --names 1000000 10000000
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
from material import linked, parser, pictures
from page import print_setting, print_table

from engines.sources import Entry, Listing, open_source
from engines.sources.slide_rule import SlideRule
from screen.options import SHARD_CELLS
from screen.results.changes import changes_since
from screen.results.folder import ResultsFolder
from screen.results.plan import read_plan
from screen.results.planning import plan_source
from screen.results.schema import FINGERPRINT_KEY

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from engines.cells import CellRef
    from engines.sources import Source

MIB = 2**20
GOAL_MIB = 250  # of growth, however many names
NO_ROWS = ds.dataset(pa.table({"path": pa.array([], "str"), "content_hash": pa.array([], "str")}))
HEADER = (
    "source", "names", "planning", "µs a name", "looking back", "growth MiB", "peak MiB",
    "plan.parquet MB",
)  # fmt: skip


class MadeUp:
    """A Source that holds *count* names and nothing else."""

    location = name = "made-up"
    locations = ()
    carried = MappingProxyType[str, Any]({})

    def __init__(self, count: int) -> None:
        """Hold that many."""
        self._count = count

    def list(self) -> Listing:
        """Name them, in order."""
        return Listing(Entry(name, "", 600_000, i) for i, name in enumerate(_names(self._count)))

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
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for names in [2000, 4000] if given.small else given.names:
            for title, source in _sources(given, Path(scratch), names).items():
                rows.append(_measured(title, source, names))
                print(" ".join(map(str, rows[-1])), file=sys.stderr)
    print_table(
        f"Processor seconds and memory (goal: growth under {GOAL_MIB} MiB, however many)",
        HEADER,
        rows,
    )
    _print_ratios(rows)
    print_setting(small=given.small)


def _arguments() -> Namespace:
    """Read the command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--names", type=int, nargs="+", default=[1_000_000, 10_000_000])
    arguments.add_argument("--tree", action="store_true", help="a real folder tree, too")
    arguments.add_argument("--plan", metavar="SOURCE", help="only plan, in this process")
    return arguments.parse_args()


def _names(count: int) -> Iterator[str]:
    """Name cells as C-NMC does, a thousand to a folder."""
    for i in range(count):
        yield f"{i // 1000:06d}/UID_{i // 1000}_{i % 1000}_{i % 7}_all.bmp"


def _sources(given: Namespace, scratch: Path, names: int) -> dict[str, str]:
    """Make what is planned; return it by what it is called."""
    table = scratch / f"{names}.csv"
    with table.open("w", encoding="utf-8") as file:
        file.write("path,label\n")
        file.writelines(f"{name},all\n" for name in _names(names))
    sources = {"made-up names": "-", "a manifest": str(table)}
    if given.tree:
        tree = linked(pictures(given.cells, "cnmc-jpeg"), scratch / f"tree-{names}", names)
        sources["a folder tree"] = str(tree)
    return sources


def _measured(title: str, source: str, names: int) -> list[Any]:
    """Plan in a process of its own, and return a row."""
    command = [sys.executable, __file__, "--names", str(names), f"--plan={source}"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    cells, *numbers = printed.split()
    if int(cells) != names:
        raise SystemExit(f"{cells} cells were planned of {names}")
    return [title, names, *numbers]


def _plan(given: Namespace) -> None:
    """Plan as a run and its resume do, look back, and print the numbers of a row."""
    imported, count = _peak_mib(), given.names[0]
    source: Source = MadeUp(count) if given.plan == "-" else open_source(Path(given.plan))
    start = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        results = ResultsFolder(Path(out))
        plan = plan_source(source, SlideRule(), SHARD_CELLS)
        plan.write(results.plan, {FINGERPRINT_KEY: b"benchmark"})
        next(plan.spread(64))
        plan = read_plan(results)
        cells = sum(len(shard.refs) for shard in plan.shards())
        planned = time.process_time() - start
        if changes := changes_since(plan, source, NO_ROWS):
            raise SystemExit(f"{changes} in a source that nobody has touched")
        looked = time.process_time() - start - planned
        size = results.plan.stat().st_size / 1e6
    peak = _peak_mib()
    print(cells, f"{planned:.1f} {planned / cells * 1e6:.1f} {looked:.1f}", end=" ")
    print(f"{peak - imported:.0f} {peak:.0f} {size:.1f}")


def _print_ratios(rows: list[list[Any]]) -> None:
    """Print how seconds and memory grow from the fewest names to the most."""
    few, most = min(row[1] for row in rows), max(row[1] for row in rows)
    found = []
    for title in dict.fromkeys(row[0] for row in rows):
        first, last = (next(r for r in rows if r[:2] == [title, names]) for names in (few, most))
        ratios = [float(last[column]) / max(float(first[column]), 0.1) for column in (2, 5)]
        found.append([title, *(f"{ratio:.2f}" for ratio in ratios)])
    header = ("source", "times the processor seconds", "times the growth")
    print_table(f"{most:,} names against {few:,}", header, found)


def _peak_mib() -> float:
    """Return the most this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


if __name__ == "__main__":
    main()

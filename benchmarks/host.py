"""
What the main process spends on a cell, how worker processes scale, and what they cost or gain.

**With sleeps.** Decoding is a sleep in a worker process and the model takes no time
(``sleeping_decoder.py``); all between is what a run has: tasks and pixels that go to and fro, the
stream, scores made into rows, Parquet. So N workers need no N cores, and what is measured is the
host's own share: processor time of the main process for each cell (``time.process_time``, all its
threads), once for the stream alone and once with rows written; and cells/s with N workers over N
times those with one. Batches are a GPU's; all workers have begun and everything that is made once
has been made before.

**With real cells.** JPEG crops decoded by threads (``--decode-workers 0``) and by workers, alone
and joined to the model, with the settings of ``slidescreen run``. Each is given as cells/s and as
processor time of this process and all workers for each cell, which other processes on the machine
disturb less. All take turns, so that a slow minute meets all of them; ratios are taken within a
turn, and printed is the median over the turns.

**What more cores would carry** is worked out from both: N cores decode N / (processor time for a
cell in a worker) cells/s, and one main process hands over at most 1 / (its time for a cell).

    python benchmarks/host.py
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from material import linked, parser, pictures
from page import print_setting, print_table
from sleeping_decoder import FreeRuntime, Pause

from engines.backends import decoder_candidates, open_decoder, open_runtime, precision_candidates
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.decode.workers.decoder import WorkerDecoder
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.runtime.base import DEFAULT_BATCH, GPU_BATCH, RuntimeOptions
from engines.sources import open_source
from engines.sources.slide_rule import SlideRule
from screen.results.cell_uncertainty import Uncertainty
from screen.results.fingerprint import Fingerprint
from screen.results.folder import ResultsFolder
from screen.results.parts import Commit
from screen.results.plan import plan_source
from screen.runners.pipeline import screened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from engines.decode.base import Decoder
    from engines.runtime.base import Runtime

MAIN_GOAL_US = 20
OPENER = "sleeping_decoder:open_decoder"
SLEEP_S = 0.004  # a cell: so long that what a worker does besides counts little
SLEEPING_WORKERS = (1, 2, 4, 8, 16)
REAL_WORKERS = (0, 1, 2)
CORES = (2, 8, 16)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """
    What some cells took.

    Attributes:
        rate: Cells per second.
        main: Processor seconds of this process, for each cell.
        workers: Likewise of the worker processes.
    """

    rate: float
    main: float
    workers: float = 0.0


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=400, help="real cells of a turn")
    arguments.add_argument("--turns", type=int, default=3)
    given = arguments.parse_args()
    count, turns = (32, 1) if given.small else (given.count, given.turns)
    bundle = ModelBundle.load(DEFAULT_BUNDLE)
    with tempfile.TemporaryDirectory() as scratch:
        handed = sleeping(bundle, Path(scratch), seconds=0.5 if given.small else 2.0)
        source = linked(pictures(given.cells, "cnmc-jpeg"), Path(scratch) / "cells", count)
        decoding = real(bundle, source, turns)
    print_carried(handed, decoding)
    print_setting(small=given.small)


def sleeping(bundle: ModelBundle, scratch: Path, seconds: float) -> Cost:
    """Measure with sleeps; return what the most workers cost with rows written."""
    rows, alone, written = [], [], []
    uncertainty = Uncertainty(bundle, 0.95)
    for workers in SLEEPING_WORKERS:
        options = DecodeOptions(batch=GPU_BATCH, threads=workers, workers=workers)
        decoder = WorkerDecoder(OPENER, Pause(SLEEP_S), bundle.input, options)
        stages = (decoder, FreeRuntime(bundle, GPU_BATCH))
        warm = _made_up(2 * workers * GPU_BATCH)
        shard = _made_up(int(seconds * workers / SLEEP_S / GPU_BATCH + 1) * GPU_BATCH)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            cost(_rows(uncertainty, Path(folder), warm, *stages), decoder)
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            alone.append(cost(decoder.stream([shard]), decoder))
            written.append(cost(_rows(uncertainty, Path(folder), shard, *stages), decoder))
        rows.append(
            (
                workers,
                f"{written[-1].rate:.0f}",
                f"{written[-1].rate / workers / written[0].rate:.2f}",
                f"{1e6 * alone[-1].main:.0f}",
                f"{1e6 * written[-1].main:.0f}",
                f"{1e6 * written[-1].workers:.0f}",
            )
        )
    print_table(
        f"A cell sleeps {1e3 * SLEEP_S:.0f} ms (goal: {MAIN_GOAL_US} us of the main process)",
        ("workers", "cells/s", "of N times one", "main, us", "main with rows, us", "workers, us"),
        rows,
    )
    return written[-1]


def real(bundle: ModelBundle, source: Path, turns: int) -> dict[int, list[Cost]]:
    """Measure real cells; return what decoding alone cost, by the number of workers."""
    opened = open_source(source)
    shards = list(plan_source(opened, SlideRule(), 4096).shards())
    name = next(decoder_candidates()).decoder.value
    precision = next(precision_candidates("openvino")).value
    runtime = open_runtime("openvino", bundle, RuntimeOptions(precision=precision))
    decoders = {
        workers: open_decoder(
            name, opened.read, bundle.input, DecodeOptions(batch=DEFAULT_BATCH, workers=workers)
        )
        for workers in REAL_WORKERS
    }
    found: dict[str, dict[int, list[Cost]]] = {"decode": {}, "end to end": {}}
    for turn in range(turns + 1):
        for workers, decoder in decoders.items():
            costs = {
                "decode": cost(decoder.stream(shards), decoder),
                "end to end": cost(runtime.stream(decoder.stream(shards)), decoder),
            }
            for kind, measured in costs.items():
                if turn:  # the first warms the page cache, the model and the codecs
                    found[kind].setdefault(workers, []).append(measured)
        print(f"turn {turn} of {turns}, load {os.getloadavg()[0]:.1f}", flush=True)
    for kind, costs in found.items():
        _print_real(f"{kind}: JPEG, {runtime.name} {precision}", costs)
    return found["decode"]


def cost(stream: Iterable[Any], decoder: Decoder) -> Cost:
    """Drain a stream; say what its cells took."""
    workers = _workers_seconds(decoder)
    start, began = time.perf_counter(), time.process_time()
    cells = sum(_cells(item) for item in stream)
    used, took = time.process_time() - began, time.perf_counter() - start
    return Cost(cells / took, used / cells, (_workers_seconds(decoder) - workers) / cells)


def print_carried(handed: Cost, decoding: dict[int, list[Cost]]) -> None:
    """Print what more cores would carry."""
    each = median(found.workers for found in decoding[1])
    most = 1 / handed.main
    print_table(
        f"A JPEG takes {1e3 * each:.2f} ms in a worker and {1e6 * handed.main:.0f} us in main",
        ("cores", "workers decode, cells/s", "main process hands over, cells/s"),
        [(cores, f"{cores / each:.0f}", f"{most:.0f}") for cores in CORES],
    )


def _print_real(title: str, costs: dict[int, list[Cost]]) -> None:
    """Print medians, and ratios to threads of the same turn."""
    rows = []
    for workers, found in costs.items():
        pairs = list(zip(found, costs[0], strict=True))
        rows.append(
            (
                workers,
                f"{median(one.rate for one in found):.0f}",
                f"{median(one.rate / threads.rate for one, threads in pairs):.2f}",
                f"{1e3 * median(one.main + one.workers for one in found):.2f}",
                f"{1e3 * median(one.main for one in found):.2f}",
            )
        )
    header = ("workers", "cells/s", "of threads", "processor, ms a cell", "of it main, ms")
    print_table(title, header, rows)


def _cells(item: Any) -> int:
    """How many cells an item of a stream stands for: shards that are done count none twice."""
    return len(item.refs) if hasattr(item, "refs") else 0 if hasattr(item, "index") else item.scored


def _workers_seconds(decoder: Decoder) -> float:
    """Processor seconds of a decoder's worker processes so far; none if threads decode."""
    if not isinstance(decoder, WorkerDecoder):
        return 0.0
    return sum(map(_process_seconds, decoder.process_ids))


def _process_seconds(process: int) -> float:
    """Processor seconds of a process so far, its own and the kernel's for it (proc(5))."""
    values = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / TICKS


def _made_up(count: int) -> Shard:
    """Name so many cells."""
    return Shard(0, tuple(CellRef(f"slide/{n:07d}.jpg", "slide") for n in range(count)))


def _rows(
    uncertainty: Uncertainty, folder: Path, shard: Shard, decoder: Decoder, runtime: Runtime
) -> Iterator[Any]:
    """Screen a shard as a run does, its part written into *folder*."""
    results = ResultsFolder(folder)
    results.cells.mkdir(parents=True)
    nothing = {field.name: "" for field in fields(Fingerprint)}
    commit = Commit(results, Fingerprint(**nothing), uncertainty)
    return screened([shard], decoder, runtime, lambda scores: scores, commit)


if __name__ == "__main__":
    main()

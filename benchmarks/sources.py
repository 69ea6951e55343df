"""
Cells from packed shards against the same cells from a warm folder: what listing and reading costs.

Real JPEG crops, hard-linked to so many cells, are packed by ``slidescreen pack`` into tar shards
and into Parquet shards. Each source is then listed, and every cell of it read in order by two
threads, several times in turn; the best of each counts, as other work on the machine only adds.
The bytes are compared with the folder's. With ``--s3`` the same from a bucket of moto's server,
which shares this machine's cores, fetched a batch of 64 at a time.

A cell's share of the stream is its processor time against what screening it takes end to end
(``--per-cell-ms``, from ``benchmarks/throughput.py``).

    python benchmarks/sources.py
"""

from __future__ import annotations

import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import xxhash
from material import linked, parser, pictures
from page import print_setting, print_table

from engines.cells import CellRef
from engines.locations import location
from engines.sources import open_source
from screen.packing.pack import PackOptions, pack

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from engines.sources import Source

THREADS = 2
BATCH = 64
GOAL_SHARE = 0.10


@dataclass(frozen=True, slots=True)
class Turn:
    """One pass over a source: seconds and processor seconds, and a digest of all bytes."""

    listing: float
    reading: float
    processor: float
    digest: int

    @property
    def seconds(self) -> float:
        """Listing and reading."""
        return self.listing + self.reading


def main() -> None:
    """Measure and print."""
    given = _arguments()
    count, turns = (200, 1) if given.small else (given.count, given.turns)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["SLIDESCREEN_CACHE"] = f"{scratch}/cache"
        folder = linked(pictures(given.cells, "cnmc-jpeg"), Path(scratch) / "cells", count)
        places = {"a folder": str(folder)}
        for kind in ("tar", "parquet"):
            out = Path(scratch) / kind / f"cells-%05d.{kind}"
            places[f"{kind} shards"] = _packed(folder, out, count // 4 + 1)
        _print(count, given, _measured(places, turns))
        if given.s3:
            _print_s3(count, given, folder)
    print_setting(small=given.small)


def _arguments() -> Namespace:
    """Read the command line."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=20_000, help="cells")
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--per-cell-ms", type=float, default=11.5, help="screening, end to end")
    arguments.add_argument("--s3", action="store_true", help="from a bucket on this machine, too")
    return arguments.parse_args()


def _packed(folder: Path, out: Path, shard_cells: int) -> str:
    """Pack a folder and return what opens the shards."""
    for _ in pack(
        open_source(folder), PackOptions(out=location(str(out)), shard_cells=shard_cells)
    ):
        pass
    return str(out).replace("%05d", "*")


def _measured(places: dict[str, str], turns: int) -> dict[str, Turn]:
    """Go over every source in turn, and return the best pass over each."""
    passes: dict[str, list[Turn]] = {name: [] for name in places}
    for _ in range(turns):
        for name, place in places.items():
            passes[name].append(_turn(open_source(place)))
    if len({turn.digest for each in passes.values() for turn in each}) > 1:
        raise SystemExit("two sources gave different bytes")
    return {name: min(each, key=lambda turn: turn.seconds) for name, each in passes.items()}


def _turn(source: Source) -> Turn:
    """List a source, and read every cell."""
    processor, start = time.process_time(), time.perf_counter()
    refs = [CellRef(entry.path, "", entry.locator) for entry in source.list()]
    listed = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        batches = [refs[first : first + BATCH] for first in range(0, len(refs), BATCH)]
        digests = list(threads.map(lambda batch: _read(source, batch), batches))
    end = time.perf_counter()
    total = sum(digests) % 2**64
    return Turn(listed - start, end - listed, time.process_time() - processor, total)


def _read(source: Source, refs: Sequence[CellRef]) -> int:
    """Read a batch as a decoder does; return the sum of a hash of each cell."""
    if (ahead := getattr(source, "read_ahead", None)) is not None:
        ahead(refs)
    return sum(xxhash.xxh3_64_intdigest(source.read(ref)) for ref in refs)


def _print(count: int, given: Namespace, found: dict[str, Turn]) -> None:
    """Print a row for each source, the folder being 1."""
    whole = found["a folder"].seconds
    rows = []
    for name, turn in found.items():
        each = turn.processor / count * 1e6
        share = each / 1000 / given.per_cell_ms
        rows.append(
            [name, f"{turn.listing:.2f}", f"{turn.reading:.2f}", f"{each:.0f}", f"{share:.1%}",
             f"{whole / turn.seconds:.2f}"]
        )  # fmt: skip
    header = ("source", "listing s", "reading s", "processor µs a cell", "of the stream", "rate")
    print_table(
        f"{count} cells (goal: packed at a rate of at least 1, under {GOAL_SHARE:.0%})",
        header, rows,
    )  # fmt: skip


def _print_s3(count: int, given: Namespace, folder: Path) -> None:
    """Measure the same from a bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        bucket = location("s3://benchmark")
        bucket.fs.mkdir(bucket.path)
        place = _packed(folder, bucket / "cells-%05d.tar", count // 4 + 1)
        _print(count, given, _measured({"a folder": str(folder), "tar shards, S3": place}, 1))
    finally:
        server.stop()


if __name__ == "__main__":
    main()

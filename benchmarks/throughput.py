"""
Cells per second of the engine alone, of decoding alone, and of both joined up.

Measured in one process, with the settings that ``slidescreen run`` picks here by itself:

- engine: the runtime's stream over pixels that lie in memory already, so nothing but the model;
- decode: the decoder's stream, its pixels thrown away;
- end to end: the decoder's stream into the runtime's, as the run joins them;
- slidescreen run: the rate in the run.json of the whole command, a process of its own, which also
  writes Parquet (its start-up is not in that rate; ``against_timm.py`` counts it).

Why it is fair: engine and end to end use the same compiled model, batch, threads and precision on
the same cells, and take turns, so that a slow minute of the machine meets them all. A ratio is
taken within a turn; printed is the median over the turns. Files are warm in the page cache. The
last column is what the two stages could reach at best on the same cores, 1 / (1/engine + 1/decode).

The second table is the engine alone at several batch sizes, taking turns likewise.

    python benchmarks/throughput.py
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from material import FORMATS, converted, linked, parser, pictures
from page import print_setting, print_table
from whole_run import slidescreen

from engines.backends import decoder_candidates, open_decoder, open_runtime, precision_candidates
from engines.cells import Batch
from engines.decode.base import DecodeOptions
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.runtime.base import DEFAULT_BATCH, RuntimeOptions
from engines.sources import open_source
from engines.sources.slide_rule import SlideRule
from screen.results.planning import plan_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engines.cells import Shard
    from engines.decode.base import Decoder
    from engines.runtime.base import Runtime

GOAL = 0.8
ENGINE_BATCHES = (4, 8, 16)
PAIRINGS = ("engine", "decode", "end to end", "slidescreen run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One format's cells, ready to be measured in every pairing."""

    name: str
    source: Path
    shards: Sequence[Shard]
    decoder: Decoder
    runtime: Runtime
    batches: Sequence[Batch]

    def turn(self, out: Path) -> dict[str, float]:
        """Measure each pairing once, in cells per second."""
        joined = self.runtime.stream(self.decoder.stream(self.shards))
        return {
            "engine": rate(self.runtime.stream(self.batches)),
            "decode": rate(self.decoder.stream(self.shards)),
            "end to end": rate(joined),
            "slidescreen run": slidescreen(self.source, out).record.rates.end_to_end,
        }


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=1200, help="cells of each format")
    arguments.add_argument("--turns", type=int, default=5)
    given = arguments.parse_args()
    count, turns = (64, 1) if given.small else (given.count, given.turns)
    bundle = ModelBundle.load(DEFAULT_BUNDLE)
    with tempfile.TemporaryDirectory() as scratch:
        benches = _benches(given.cells, Path(scratch), count, bundle)
        settings = benches[0].runtime.options
        print(f"{count} cells of each format, {turns} turns; {benches[0].runtime.name}, {settings}")
        _print_formats(benches, _turns(benches, turns, Path(scratch)))
        _print_batches(_batch_rates(benches[0].batches, bundle, settings, turns))
    print_setting(small=given.small)


def rate(stream: Iterable[Any]) -> float:
    """Drain a stream of batches or scores; return cells per second."""
    start = time.perf_counter()
    cells = sum(len(item.refs) for item in stream)
    return cells / (time.perf_counter() - start)


def _benches(cells: Path, scratch: Path, count: int, bundle: ModelBundle) -> list[Bench]:
    """Prepare every format; one runtime serves them all."""
    precision = next(precision_candidates("openvino")).value
    runtime = open_runtime("openvino", bundle, RuntimeOptions(precision=precision))
    sources = _sources(cells, scratch, count)
    benches = [_bench(name, source, bundle, runtime) for name, source in sources.items()]
    rate(runtime.stream(benches[0].batches[:8]))  # the first inference of a model is slow
    return benches


def _sources(cells: Path, scratch: Path, count: int) -> dict[str, Path]:
    """Make a folder of *count* cells for each format."""
    bitmaps = pictures(cells, "cnmc-bmp")
    files = {"JPEG": pictures(cells, "cnmc-jpeg"), "BMP": bitmaps}
    for name in ("PNG", "WebP lossless", "WebP lossy"):
        files[name] = converted(bitmaps, scratch / f"converted-{name}", FORMATS[name])
    return {name: linked(paths, scratch / name, count) for name, paths in files.items()}


def _bench(name: str, source: Path, bundle: ModelBundle, runtime: Runtime) -> Bench:
    """Prepare one format; decoding it once also warms the page cache."""
    opened = open_source(source)
    shards = list(plan_source(opened, SlideRule(), 4096).shards())
    options = DecodeOptions(batch=DEFAULT_BATCH)
    decoder = open_decoder(
        next(decoder_candidates()).decoder.value, opened.read, bundle.input, options
    )
    return Bench(
        name=name,
        source=source,
        shards=shards,
        decoder=decoder,
        runtime=runtime,
        batches=list(decoder.stream(shards)),
    )


def _turns(benches: Sequence[Bench], turns: int, scratch: Path) -> dict[str, list[dict]]:
    """Measure every format and pairing in turn, then again."""
    found: dict[str, list[dict]] = {bench.name: [] for bench in benches}
    for turn in range(turns):
        for bench in benches:
            found[bench.name].append(bench.turn(scratch / f"results-{bench.name}-{turn}"))
        print(f"turn {turn + 1} of {turns}, load {os.getloadavg()[0]:.1f}", flush=True)
    return found


def _print_formats(benches: Sequence[Bench], found: dict[str, list[dict]]) -> None:
    """Print medians and ratios."""
    rows = []
    for bench in benches:
        measured = found[bench.name]
        rates = [median(turn[pairing] for turn in measured) for pairing in PAIRINGS]
        shares = [
            median(turn[pairing] / turn["engine"] for turn in measured) for pairing in PAIRINGS[2:]
        ]
        bound = median(turn["decode"] / (turn["decode"] + turn["engine"]) for turn in measured)
        rows.append(
            [bench.name, *(f"{value:.0f}" for value in rates)]
            + [f"{value:.2f}" for value in (*shares, bound)]
        )
    print_table(
        f"Cells/s; shares of the engine alone (goal for JPEG: at least {GOAL})",
        ("format", *PAIRINGS, "end to end / engine", "run / engine", "at best"),
        rows,
    )


def _batch_rates(
    batches: Sequence[Batch], bundle: ModelBundle, options: RuntimeOptions, turns: int
) -> dict[int, float]:
    """Measure the engine alone at several batch sizes; smaller ones get the same cells, cut."""
    streams = {}
    for size in ENGINE_BATCHES:
        chosen = RuntimeOptions(precision=options.precision, batch=size, threads=options.threads)
        streams[size] = (open_runtime("openvino", bundle, chosen), _recut(batches, size))
    found: dict[int, list[float]] = {size: [] for size in ENGINE_BATCHES}
    for turn in range(turns + 1):
        for size, (runtime, cut) in streams.items():
            measured = rate(runtime.stream(cut))
            if turn:  # the first inference of a model is slow
                found[size].append(measured)
    return {size: median(rates) for size, rates in found.items()}


def _recut(batches: Sequence[Batch], size: int) -> list[Batch]:
    """Return the same cells in batches of another size."""
    refs = [ref for batch in batches for ref in batch.refs]
    facts = [fact for batch in batches for fact in batch.facts]
    pixels = np.concatenate([batch.pixels for batch in batches])
    parts = [slice(start, start + size) for start in range(0, len(refs), size)]
    shard = batches[0].shard
    return [Batch(shard, tuple(refs[part]), tuple(facts[part]), pixels[part]) for part in parts]


def _print_batches(rates: dict[int, float]) -> None:
    """Print the sweep."""
    rows = [(size, f"{found:.0f}", f"{found / rates[8]:.2f}") for size, found in rates.items()]
    print_table("The engine alone", ("batch", "cells/s", "of batch 8"), rows)


if __name__ == "__main__":
    main()

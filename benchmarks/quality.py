"""
What do the image-quality numbers cost?

Processor time of ``engines.image_quality`` on decoded crops, a batch at a time and one thread, as
the decoding threads run it, against that of the whole stream (decode, measure and score) of the
same crops in the same process, turn about: processor time is what threads share, and other
processes change it little.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np
import torch
from material import parser, pictures, spread
from page import print_setting, print_table

from engines.backends import (
    decoder_candidates,
    open_decoder,
    open_runtime,
    precision_candidates,
    runtime_candidates,
)
from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.image_quality import quality
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.runtime.base import DEFAULT_BATCH, RuntimeOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TURNS = 5
GOAL = 0.05


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=300, help="crops per turn")
    given = arguments.parse_args()
    count = 24 if given.small else given.count
    rows = measured(spread(pictures(given.cells, "cnmc-jpeg"), count))
    header = ["turn", "quality, ms per cell", "whole stream, ms per cell", "share"]
    print_table(f"Quality against the whole stream (goal: at most {GOAL:.0%})", header, rows)
    print_setting(small=given.small)


def measured(paths: list[Path]) -> list[list[str]]:
    """Time both, turn about."""
    bundle = ModelBundle.load(DEFAULT_BUNDLE)
    options = DecodeOptions(batch=DEFAULT_BATCH)
    files = {path.name: path for path in paths}
    decoder = open_decoder(
        next(decoder_candidates()).decoder.value,
        lambda ref: files[ref.path].read_bytes(),
        bundle.input,
        options,
    )
    name = next(runtime_candidates()).value
    runtime = open_runtime(
        name, bundle, RuntimeOptions(precision=next(precision_candidates(name)).value)
    )
    shard = Shard(0, tuple(CellRef(file, "") for file in files))
    pixels = np.concatenate([batch.pixels for batch in decoder.stream([shard])])
    torch.set_num_threads(1)
    rows, shares = [], []
    for turn in range(TURNS):
        own = seconds(
            lambda: [quality(some) for some in torch.from_numpy(pixels).split(DEFAULT_BATCH)]
        )
        whole = seconds(lambda: list(runtime.stream(decoder.stream([shard]))))
        shares.append(own / whole)
        per_cell = 1e3 / len(paths)
        rows.append(
            [str(turn), f"{own * per_cell:.2f}", f"{whole * per_cell:.1f}", f"{own / whole:.1%}"]
        )
    return [*rows, ["median", "", "", f"{statistics.median(shares):.1%}"]]


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of a call, all threads together."""
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()

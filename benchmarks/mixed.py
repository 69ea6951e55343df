"""
What bfloat16 on the processor gains, and what its exceptions cost and mend.

OpenVINO's engine alone, over real cells that lie in memory: in float32, in bfloat16 with what the
bundle leaves to float32, and in bfloat16 throughout. Same batch and threads, taking turns; a ratio
is taken within a turn, printed is the median. Beside it how far calibrated probabilities are from
FP32 PyTorch on the same cells, those of people that the model was not trained on.

    python benchmarks/mixed.py
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from material import parser, spread
from ood import batches
from page import print_setting, print_table

from engines.backends import open_runtime, precision_candidates
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.parity import score_agreement
from engines.runtime.base import DEFAULT_BATCH, RuntimeOptions
from train.data.decoded import decoded_cells
from train.data.labelled_cells import open_labelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.cells import Batch
    from engines.runtime.base import Runtime

COUNT, COUNT_SMALL = 256, 16


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, default=DEFAULT_BUNDLE)
    arguments.add_argument("--turns", type=int, default=5)
    given = arguments.parse_args()
    next(precision_candidates("openvino", "bf16"))
    bundle = ModelBundle.load(given.model)
    every = open_labelled([given.cells / "cnmc-fold0", given.cells / "cnmc-fold2"])
    unseen = [c for c in every if c.subject not in bundle.data["training_subjects"]]
    count = COUNT_SMALL if given.small else COUNT
    pixels = decoded_cells(spread(unseen, count), bundle.input).pixels
    cells = list(batches(pixels, DEFAULT_BATCH))
    throughout = {"bf16": {**bundle.half["bf16"], "overflowing": {}, "costly": []}}
    with TemporaryDirectory() as cache:
        os.environ["SLIDESCREEN_CACHE"] = cache  # what was found on this machine stays out of it
        runtimes = {
            "float32": open_runtime("openvino", bundle, RuntimeOptions()),
            "bfloat16 with exceptions": open_runtime(
                "openvino", bundle, RuntimeOptions(precision="bf16")
            ),
            "bfloat16 throughout": open_runtime(
                "openvino", replace(bundle, half=throughout), RuntimeOptions(precision="bf16")
            ),
        }
        reference = open_runtime("torch", bundle, RuntimeOptions())
        rows = table(bundle, runtimes, reference, cells, 1 if given.small else given.turns)
    header = ("", "cells/s", "of float32", "largest dp", "labels flipped", "parity holds")
    print_table(f"{bundle.architecture} {bundle.sha256[:12]}, {count} cells", header, rows)
    print_setting(small=given.small)


def table(
    bundle: ModelBundle,
    runtimes: dict[str, Runtime],
    reference: Runtime,
    cells: Sequence[Batch],
    turns: int,
) -> list[tuple[object, ...]]:
    """Take turns; return a row for each runtime."""
    expected, _ = timed(reference, cells)
    rates: dict[str, list[float]] = {name: [] for name in runtimes}
    logits = {}
    for turn in range(1 + turns):
        for name, runtime in runtimes.items():
            logits[name], rate = timed(runtime, cells)
            if turn:  # the first warms up
                rates[name].append(rate)
    rows: list[tuple[object, ...]] = []
    for name, runtime in runtimes.items():
        agreement = score_agreement(
            [ref for batch in cells for ref in batch.refs],
            logits[name],
            expected,
            bundle=bundle,
            precision=runtime.options.precision,
        )
        ratio = median(
            ours / base for ours, base in zip(rates[name], rates["float32"], strict=True)
        )
        numbers = (f"{median(rates[name]):.0f}", f"{ratio:.2f}", f"{agreement.max_dp:.4f}")
        rows.append((name, *numbers, agreement.flips, "yes" if agreement.holds else "no"))
    return rows


def timed(runtime: Runtime, cells: Sequence[Batch]) -> tuple[np.ndarray, float]:
    """Score; return the logits, and cells per second."""
    start = time.perf_counter()
    logits = np.concatenate([scores.logits for scores in runtime.stream(cells)])
    return logits, len(logits) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()

"""
How far half precision is from float32 on real cells, and how near it comes to overflow.

The backbone computes in the type with batch norms folded, as a TensorRT engine does; input and head
are float32. On the processor, sums of a convolution are taken in float32 and rounded once, as
tensor cores do; on a GPU, torch's own half is used. Modules whose activations come within a factor
of 4 of the type's maximum, or that cost parity, are put back to float32 by name, as
``slidescreen engine build --cells`` does, and named here. Differences are of calibrated
probabilities, against FP32 PyTorch on the same pixels, over every cell of C-NMC's fold 0.

It says what the arithmetic does; what a plan does on a card, ``slidescreen engine verify`` says.

    python benchmarks/half.py --precision fp16
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from material import parser
from page import print_setting, print_table

from engines.mixed_precision.policy import find_mixed
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from screen.engine_verify import cells_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.cells import Batch

SMALL, ALL = 64, 1_000_000
AT_ONCE = 8


def main() -> None:
    """Measure each precision asked for."""
    arguments = parser(__doc__)
    arguments.add_argument("--precision", nargs="+", default=["fp16", "bf16"])
    arguments.add_argument("--count", type=int, default=ALL, help="cells, spread; default: all")
    arguments.add_argument("--model", type=Path, default=DEFAULT_BUNDLE)
    options = arguments.parse_args()
    bundle = ModelBundle.load(options.model)
    count = SMALL if options.small else options.count
    batches = cells_of(options.cells / "cnmc-fold0", bundle, count, AT_ONCE)
    rows = [row(bundle, batches, precision) for precision in options.precision]
    header = ("", "cells", "largest dp", "labels flipped", "largest activation", "in float32")
    print_table(f"{bundle.architecture} {bundle.sha256[:12]}", (*header, "parity holds"), rows)
    print_setting(small=options.small)


def row(bundle: ModelBundle, batches: Sequence[Batch], precision: str) -> tuple[object, ...]:
    """Return a precision's row of the table."""
    refs = [ref for batch in batches for ref in batch.refs]
    pixels = np.concatenate([batch.host_pixels for batch in batches])
    found = find_mixed(bundle, refs, pixels, precision=precision)
    return (
        precision,
        found.cells,
        f"{found.max_dp:.3f}",
        found.flips,
        f"{found.peak:.4g} ({found.peak_module})",
        ", ".join(found.keep_fp32) or "none",
        "yes" if found.holds else "no",
    )


if __name__ == "__main__":
    main()

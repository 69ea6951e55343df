"""What half precisions must leave to float32, found once when a model is made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from engines.bundle import with_half
from engines.mixed import find_mixed

if TYPE_CHECKING:
    from engines.bundle import ModelBundle
    from train.pixels import DecodedCells

__all__ = ["measured_half"]

PRECISIONS = ("fp16", "bf16")
CELLS = 64  # at most


def measured_half(bundle: ModelBundle, held_out: DecodedCells) -> ModelBundle:
    """
    Find which modules fp16 and bf16 leave to float32, and write it into the bundle.

    Args:
        bundle: Its folder is written to; its hash changes.
        held_out: At least one cell, at the model's size; some, evenly spread, are taken.

    Returns:
        The bundle, loaded again. Whoever runs it need not look (see ``engines.mixed``), and is
        held against float32 all the same.
    """
    rows = np.unique(np.linspace(0, len(held_out.cells) - 1, CELLS).round().astype(int))
    refs = [held_out.cells[row].ref for row in rows]
    pixels = held_out.pixels[rows]
    return with_half(
        bundle,
        {
            precision: asdict(find_mixed(bundle, refs, pixels, precision=precision))
            for precision in PRECISIONS
        },
    )

"""Evidence maps, small enough to embed, in one scale for the whole page."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["common_scale", "packed"]

LEVELS = 127
BRIGHTEST = 0.995  # a single outlier must not leave the other maps pale


def common_scale(maps: Iterable[NDArray[np.float32] | None]) -> float | None:
    """Return the evidence that gets the full colour: the 99.5th percentile of its size."""
    sizes = [np.abs(each[np.isfinite(each)]) for each in maps if each is not None]
    if not sizes or not sum(map(len, sizes)):
        return None
    return float(np.quantile(np.concatenate(sizes), BRIGHTEST)) or None


def packed(evidence: NDArray[np.float32], scale: float) -> str:
    """Return a map as base64 of int8, row by row; 127 is *scale* or more."""
    levels = np.nan_to_num(evidence.astype(np.float64) / scale) * LEVELS
    whole = np.rint(levels).clip(-LEVELS, LEVELS).astype(np.int8)
    return base64.b64encode(whole.tobytes()).decode("ascii")

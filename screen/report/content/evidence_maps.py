"""Evidence maps: where they lie on a crop, their common scale, and how a page carries them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from engines.decode.geometry import placement

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from engines.models.input import ModelInput
    from screen.report.content.columns import EvidenceGrid

__all__ = ["evidence_scale", "overlay_box", "packed_evidence"]

LEVELS = 127
BRIGHTEST = 0.995  # a single outlier must not leave the other maps pale


def overlay_box(
    height: int, width: int, expected: ModelInput, grid: EvidenceGrid
) -> tuple[float, float, float, float]:
    """
    Return where an evidence map lies on a crop, in parts of the crop's width and height.

    Args:
        height: Of the crop, in pixels, as it was decoded.
        width: Likewise.
        expected: How it became the model's input: as a whole, its middle, or with black around it.
        grid: The map's places, which may reach beyond the input, and so beyond the crop.

    Returns:
        Left, top, width, height.
    """
    place = placement(height, width, expected)
    across = place.window.width / place.width  # pixels of the crop to a pixel of the input
    down = place.window.height / place.height
    left, top, wide, high = grid.rectangle
    return (
        (place.window.left + (left - place.left) * across) / width,
        (place.window.top + (top - place.top) * down) / height,
        wide * across / width,
        high * down / height,
    )


def evidence_scale(maps: Iterable[NDArray[np.float32] | None]) -> float | None:
    """Return the evidence that gets the full colour: the 99.5th percentile of its size."""
    sizes = [np.abs(each[np.isfinite(each)]) for each in maps if each is not None]
    if not sizes or not sum(map(len, sizes)):
        return None
    return float(np.quantile(np.concatenate(sizes), BRIGHTEST)) or None


def packed_evidence(evidence: NDArray[np.float32], scale: float) -> str:
    """Return a map as base64 of int8, row by row; 127 is *scale* or more."""
    levels = np.nan_to_num(evidence.astype(np.float64) / scale) * LEVELS
    whole = np.rint(levels).clip(-LEVELS, LEVELS).astype(np.int8)
    return base64.b64encode(whole.tobytes()).decode("ascii")

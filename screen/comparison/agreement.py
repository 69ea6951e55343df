"""
How far two runs agree in their calls: share of equal calls and Cohen's kappa, with intervals.

Cells of a slide resemble each other, so whole slides are drawn (cluster bootstrap, 95% percentile
interval). Where few calls differ, the resamples hardly do; so the interval of the share is at
least as wide as Wilson's, which takes cells as independent. Legend: S slides, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from screen.summary.intervals import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Estimate", "agreement", "kappa"]

RESAMPLES = 1000
FEWEST_SLIDES = 2  # of one, no resample differs from the other


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95% interval; low and high are None where it cannot be told."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Write it as ``0.982 (0.970 to 0.991)``."""
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (interval not estimable)"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def agreement(counts_SCC: NDArray[np.int64]) -> Estimate | None:
    """
    Return the share of cells that both runs call the same; None of no cell.

    Args:
        counts_SCC: By slide, the cells that the first run (rows) and the second (columns) call so.
    """
    total = int(counts_SCC.sum())
    if not total:
        return None
    same = int(np.trace(counts_SCC.sum(0)))
    low, high = wilson(same, total)
    drawn = [_share(counts) for counts in _resamples(counts_SCC)]
    if drawn:
        least, most = np.percentile(drawn, [2.5, 97.5])
        low, high = min(low, float(least)), max(high, float(most))
    return Estimate(same / total, low, high)


def kappa(counts_SCC: NDArray[np.int64]) -> Estimate | None:
    """
    Return Cohen's kappa (1960), agreement beyond what chance gives: 1 is all, 0 is chance.

    None where it is not defined: no cell, or both runs call every cell the same class.
    """
    value = _kappa(counts_SCC.sum(0))
    if value is None:
        return None
    drawn = [each for counts in _resamples(counts_SCC) if (each := _kappa(counts)) is not None]
    if len(drawn) < RESAMPLES // 2 or len(set(drawn)) == 1:
        return Estimate(value)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(value, float(low), float(high))


def _resamples(counts_SCC: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Draw whole slides, as many as there are, time and again; sum each draw."""
    slides = len(counts_SCC)
    if slides < FEWEST_SLIDES:
        return []
    rng = np.random.default_rng(0)
    flat = counts_SCC.reshape(slides, -1)
    times = rng.multinomial(slides, np.full(slides, 1 / slides), RESAMPLES)
    return list((times @ flat).reshape(RESAMPLES, *counts_SCC.shape[1:]))


def _share(counts_CC: NDArray[np.int64]) -> float:
    """Return the share on the diagonal."""
    return float(np.trace(counts_CC) / max(counts_CC.sum(), 1))


def _kappa(counts_CC: NDArray[np.int64]) -> float | None:
    """Return kappa of one table."""
    total = counts_CC.sum()
    if not total:
        return None
    expected = float(counts_CC.sum(0) @ counts_CC.sum(1)) / float(total) ** 2
    if expected == 1:
        return None
    return (_share(counts_CC) - expected) / (1 - expected)

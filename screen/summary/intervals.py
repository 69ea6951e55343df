"""How sure a share of cells is, were cells independent."""

from __future__ import annotations

__all__ = ["CONFIDENCE", "wilson"]

CONFIDENCE = 0.95


def wilson(count: int, of: int) -> tuple[float, float]:
    """
    Return the 95% score interval of the share *count* / *of*, each 0 to 1 (Wilson, JASA 1927).

    Args:
        count: How many are of the kind.
        of: How many there are; at least 1.
    """
    from scipy.stats import binomtest  # slow to import, and a resumed run may not need it

    interval = binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)

"""
Cells weighted so that every subject counts the same.

Cells of one subject resemble each other, and cells of another subject do not: what was measured on
held-out cells speaks for new cells only as far as it holds from subject to subject. So cumulative
distributions are pooled over subjects and not over cells ("CDF pooling": Dunn, Wasserman and
Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", JASA 2022). Where
all subjects have as many cells, this is the ordinary empirical distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Pooled", "left_out"]

GROUPS = 50  # of subjects, left out together where there are more


def left_out(subjects_N: NDArray[np.integer]) -> Iterator[NDArray[np.bool_]]:
    """Yield which cells to leave out and judge by the others, a subject or a group at a time."""
    _, number = np.unique(subjects_N, return_inverse=True)
    for group in range(min(GROUPS, number.max(initial=-1) + 1)):
        yield number % GROUPS == group


@dataclass(frozen=True, slots=True)
class Pooled:
    """
    The scores of held-out cells, pooled over subjects.

    Attributes:
        scores: ``(N,)`` float64, ascending.
        below: ``(N + 1,)``: the weight of the first so many scores; from 0 to 1.
    """

    scores: NDArray[np.float64]
    below: NDArray[np.float64]

    @classmethod
    def of(cls, scores_N: NDArray[np.floating], subjects_N: NDArray[np.integer]) -> Pooled:
        """Weight each subject's cells by one over their number; NaN does not count."""
        known = ~np.isnan(scores_N)
        scores, subjects = scores_N[known].astype(np.float64), subjects_N[known]
        _, number, count = np.unique(subjects, return_inverse=True, return_counts=True)
        order = np.argsort(scores, kind="stable")
        weights = (1 / count)[number][order] / max(len(count), 1)
        below = np.concatenate([[0.0], np.cumsum(weights)])
        return cls(scores[order], np.minimum(below / max(below[-1], 1e-300), 1.0))

    def quantile(self, level: float) -> float:
        """
        Return the smallest score that, counting itself once more, holds *level* of the weight.

        Of equal weights that is the ceil((n + 1) level)-th smallest of n: the quantile of split
        conformal prediction. Infinite where even the largest does not.
        """
        count = len(self.scores)
        if not count:
            return float("inf")
        reached = self.below[1:] >= level * (count + 1) / count - 1e-12
        return float(self.scores[reached.argmax()]) if reached.any() else float("inf")

    def p_values(self, scores_N: NDArray[np.floating]) -> NDArray[np.float64]:
        """
        Return how rare it is to score as high: ``(1 + n w) / (n + 1)``, w the weight at or above.

        Of equal weights that is the conformal p-value (1 + #{at or above}) / (n + 1).
        """
        count = len(self.scores)
        found = np.searchsorted(self.scores, scores_N.astype(np.float64), side="left")
        above = 1 - self.below[found]
        return np.asarray((1 + count * np.maximum(above, 0)) / (count + 1))

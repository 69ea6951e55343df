"""
Whether a whole run looks like training.

The effect size: how likely a cell of the run lies farther from training than a held-out cell does
(the common-language effect size of McGraw and Wong, 1992; an AUC), slides and people counting the
same. A half is no drift, 1 is every cell. With a million cells any difference is significant, so
the size is what is judged. The test beside it compares people with people: the slides' mean
p-values with those of held-out subjects, each judged by the others (Mann and Whitney, one-sided).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from engines.uncertainty.pooling import Pooled, left_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Drift", "Verdict", "usual_means"]

Verdict = Literal["like training", "differs from training", "out of its depth"]
DIFFERS, OUT_OF_DEPTH = 0.7, 0.9


@dataclass(frozen=True, slots=True)
class Drift:
    """
    How far a run is from training.

    Attributes:
        features: The effect size in what the network sees and colour together, 0 to 1.
        colour: Likewise in the foreground's colour alone; None where there was none to measure.
        p: Of the larger one's test, corrected for there being two.
        slides: How many were compared.
    """

    features: float
    colour: float | None
    p: float
    slides: int

    @classmethod
    def measured(
        cls,
        features: tuple[NDArray[np.floating], NDArray[np.floating]],
        colour: tuple[NDArray[np.floating], NDArray[np.floating]],
    ) -> Drift | None:
        """
        Compare mean p-values: each pair is (the run's, by slide; the usual ones, by subject).

        NaN stands for a slide without any; None if there is no slide to compare.
        """
        found = [_compared(*pair) for pair in (features, colour)]
        if found[0] is None:
            return None
        p = min(1.0, len(found) * min(result[1] for result in found if result))
        slides = int((~np.isnan(features[0])).sum())
        return cls(found[0][0], found[1][0] if found[1] else None, p, slides)

    @property
    def value(self) -> float:
        """The one number: the larger effect."""
        return max(self.features, self.colour or 0.0)

    @property
    def verdict(self) -> Verdict:
        """What the number comes to."""
        if self.value < DIFFERS:
            return "like training"
        return "differs from training" if self.value < OUT_OF_DEPTH else "out of its depth"


def usual_means(
    scores_N: NDArray[np.floating], subjects_N: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return ``(S,)``: the mean p-value of each held-out subject's cells, by the others."""
    p_values = np.full(len(scores_N), np.nan)
    _, number = np.unique(subjects_N, return_inverse=True)
    for out in left_out(subjects_N):
        p_values[out] = Pooled.of(scores_N[~out], subjects_N[~out]).p_values(scores_N[out])
    known = ~np.isnan(scores_N)
    total, count = np.bincount(number[known], p_values[known]), np.bincount(number[known])
    return np.asarray(total[count > 0] / count[count > 0])


def _compared(
    found: NDArray[np.floating], usual: NDArray[np.floating]
) -> tuple[float, float] | None:
    """Return effect size and p-value; None where there is nothing on one side."""
    from scipy.stats import mannwhitneyu  # slow to import

    found = found[~np.isnan(found)]
    if not len(found) or not len(usual):
        return None
    return 1 - float(found.mean()), float(mannwhitneyu(found, usual, alternative="less").pvalue)

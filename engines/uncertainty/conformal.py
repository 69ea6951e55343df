"""
Sets of classes that hold the true one at a chosen rate.

Split conformal prediction, class by class (Mondrian: Vovk, Gammerman and Shafer, "Algorithmic
Learning in a Random World", 2005, section 4.5), with one minus the class's probability as the
score (Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers", JASA 2019), and
quantiles pooled over subjects (see ``engines.uncertainty.pooling``).

What is promised. If new subjects are drawn as the held-out ones were, a cell's set holds its class
at the chosen rate in the limit of many subjects. With S held-out subjects of a class, what is
certain whatever the distributions is the rate times S / (S + 1) (Lee, Barber and Willett,
"Distribution-free inference with hierarchical data", 2023: their threshold at that lower rate is
never above this one's). Nothing is promised for one particular subject, nor for another centre,
microscope or stain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engines.uncertainty.pooling import Pooled, left_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Conformal", "abstentions", "guaranteed", "measured_coverage"]


@dataclass(frozen=True, slots=True)
class Conformal:
    """
    Fitted prediction sets.

    Attributes:
        limits: ``(C,)``: a class is in the set when one minus its probability is at most this;
            infinite for a class of too few held-out cells, which is then always in it.
    """

    limits: NDArray[np.float64]

    @classmethod
    def fitted(
        cls,
        chances_NC: NDArray[np.float32],
        truth_N: NDArray[np.integer],
        subjects_N: NDArray[np.integer],
        coverage: float,
    ) -> Conformal:
        """Fit on held-out cells of known class."""
        limits = []
        for number in range(chances_NC.shape[1]):
            own = truth_N == number
            pooled = Pooled.of(_scores(chances_NC)[own, number], subjects_N[own])
            limits.append(pooled.quantile(coverage))
        return cls(np.array(limits))

    def sets(self, chances_NC: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return ``(N, C)``: which classes are in each cell's set."""
        return np.asarray(_scores(chances_NC) <= self.limits)


def abstentions(sets_NC: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return ``(N,)``: whose set is not exactly one class."""
    return np.asarray(sets_NC.sum(1) != 1)


def guaranteed(coverage: float, subjects: int) -> float:
    """Return the rate that is certain for a new subject after *subjects* held-out ones."""
    return coverage * subjects / (subjects + 1)


def measured_coverage(
    chances_NC: NDArray[np.float32],
    truth_N: NDArray[np.integer],
    subjects_N: NDArray[np.integer],
    coverage: float,
) -> list[float | None]:
    """
    Return, by class, how often the sets that the other subjects give hold the truth.

    Subjects are left out of the fit and judged, one by one or, of many, in groups; each counts
    the same. None for a class of fewer than two subjects.
    """
    held = np.zeros(len(truth_N), bool)
    for out in left_out(subjects_N):
        others = Conformal.fitted(chances_NC[~out], truth_N[~out], subjects_N[~out], coverage)
        held[out] = others.sets(chances_NC[out])[np.arange(out.sum()), truth_N[out]]
    return [_mean_over_subjects(held, subjects_N, truth_N == c) for c in range(chances_NC.shape[1])]


def _mean_over_subjects(
    held_N: NDArray[np.bool_], subjects_N: NDArray[np.integer], own_N: NDArray[np.bool_]
) -> float | None:
    """Average shares, each subject counting the same; None of fewer than two."""
    _, number = np.unique(subjects_N[own_N], return_inverse=True)
    shares = np.bincount(number, held_N[own_N]) / np.maximum(np.bincount(number), 1)
    return float(shares.mean()) if len(shares) > 1 else None


def _scores(chances_NC: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how badly each class conforms."""
    return 1 - chances_NC.astype(np.float64)

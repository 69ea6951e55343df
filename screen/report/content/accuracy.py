"""How right the model is on cells whose class is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.metrics import calibration_sums, expected_calibration_error
from engines.sources.labels import FOREIGN, UNKNOWN
from screen.summary.intervals import wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from screen.report.content.columns import Fields

__all__ = ["LabelledAccuracy", "ReliabilityBin", "slide_rate"]

BINS = 10
RESAMPLES, SEED = 1_000, 0
LEAST_SLIDES = 5  # with fewer, resampling slides says next to nothing


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """
    Cells of similar probability.

    Attributes:
        cells: How many.
        mean: Their mean probability.
        observed: The share of them that are what the probability is of.
        low: Of the 95% interval of that share (Wilson, cells taken as independent).
        high: Likewise.
    """

    cells: int
    mean: float
    observed: float
    low: float
    high: float


@dataclass(slots=True)
class LabelledAccuracy:
    """
    Counts over labelled cells, by slide. S slides, C classes.

    Attributes:
        fields: Of the results.
        slides: S.
        scored: Cells of each slide that are scored and labelled.
        right: ``(S,)``, those whose predicted class is their label.
        calls: Label is the positive class (0: no, 1: yes) against the call at the threshold.
        confusion: Label against predicted class.
        unlabelled: Cells without a label.
        foreign: Cells whose label is no class of the model.
        unscored: Labelled cells that could not be scored.
    """

    fields: Fields
    slides: int
    scored: NDArray[np.int64] = field(init=False)
    right: NDArray[np.int64] = field(init=False)
    calls: NDArray[np.int64] = field(init=False)
    confusion: NDArray[np.int64] = field(init=False)
    unlabelled: int = 0
    foreign: int = 0
    unscored: int = 0
    _bins: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Start from nothing."""
        classes = len(self.fields.classes)
        self.scored = np.zeros(self.slides, np.int64)
        self.right = np.zeros(self.slides, np.int64)
        self.calls = np.zeros((self.slides, 2, 2), np.int64)
        self.confusion = np.zeros((classes, classes), np.int64)
        self._bins = np.zeros((3, BINS))

    def add(
        self,
        slide_N: NDArray[Any],
        label_N: NDArray[Any],
        predicted_N: NDArray[Any],
        positive_N: NDArray[Any],
        chance_N: NDArray[Any],
    ) -> None:
        """
        Count N cells.

        Args:
            slide_N: Index of the slide.
            label_N: Index of the class, ``UNKNOWN`` or ``FOREIGN``.
            predicted_N: Index of the predicted class, -1 if not scored.
            positive_N: Whether called at the threshold; all false without a positive class.
            chance_N: Probability of the positive class, or else of the most likely one.
        """
        self.unlabelled += int(np.sum(label_N == UNKNOWN))
        self.foreign += int(np.sum(label_N == FOREIGN))
        self.unscored += int(np.sum((label_N >= 0) & (predicted_N < 0)))
        known = (label_N >= 0) & (predicted_N >= 0)
        slide, label, predicted = slide_N[known], label_N[known], predicted_N[known]
        np.add.at(self.scored, slide, 1)
        np.add.at(self.right, slide[label == predicted], 1)
        np.add.at(self.confusion, (label, predicted), 1)
        truth = label == predicted
        if self.fields.positive_index is not None:
            truth = label == self.fields.positive_index
            where = (slide, truth.astype(np.int64), positive_N[known].astype(np.int64))
            np.add.at(self.calls, where, 1)
        self._add_reliability(chance_N[known], truth)

    def _add_reliability(self, chance_N: NDArray[Any], truth_N: NDArray[Any]) -> None:
        """Add cells to their bins of probability: count, sum of probabilities, count of true."""
        self._bins += calibration_sums(chance_N, truth_N, bins=BINS)

    @property
    def cells(self) -> int:
        """How many cells are scored and labelled."""
        return int(self.scored.sum())

    def reliability(self) -> list[ReliabilityBin]:
        """Return the bins that hold cells, by rising probability."""
        bins = []
        for cells, chance, true in self._bins.T.tolist():
            if cells:
                low, high = wilson(int(true), int(cells))
                bins.append(ReliabilityBin(int(cells), chance / cells, true / cells, low, high))
        return bins

    def calibration_error(self) -> float | None:
        """Expected calibration error over the ten bins of ``reliability``; None of no cell."""
        return expected_calibration_error(self._bins)


def slide_rate(right_S: NDArray[Any], of_S: NDArray[Any]) -> tuple[float, float, float] | None:
    """
    Return a share over all slides with a 95% interval; None if it is of nothing.

    The interval resamples whole slides, for cells of one slide are alike (percentile
    bootstrap; Field and Welsh, JRSS B 2007). It is nan where fewer than five slides count.

    Args:
        right_S: How many cells of each slide are of the kind.
        of_S: Of how many.
    """
    right_S, of_S = right_S[of_S > 0], of_S[of_S > 0]
    if not len(of_S):
        return None
    share = float(right_S.sum() / of_S.sum())
    if len(of_S) < LEAST_SLIDES:
        return share, np.nan, np.nan
    random = np.random.default_rng(SEED)
    even = np.full(len(of_S), 1 / len(of_S))
    drawn_RS = (random.multinomial(len(of_S), even) for _ in range(RESAMPLES))
    sums_R2 = np.array([(draw @ right_S, draw @ of_S) for draw in drawn_RS], np.float64)
    low, high = np.quantile(sums_R2[:, 0] / sums_R2[:, 1], [0.025, 0.975])
    return share, float(low), float(high)

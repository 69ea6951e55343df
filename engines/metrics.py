"""
How good scores are, each figure with its 95% interval by bootstrap over subjects.

Cells of one subject resemble each other, so cells are not independent draws: whole subjects are
drawn, class by class. Legend: N cells, C classes, S subjects.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "Interval",
    "Scored",
    "by_subject",
    "calibration_sums",
    "comparison",
    "confusion",
    "expected_calibration_error",
    "figures",
    "intervals",
    "subject_accuracies",
]

BINS = 15  # of the calibration error, as in Guo et al. (ICML 2017)
RESAMPLES = 1000
TINY = 1e-12  # keeps a class that is never called, nor there, from dividing by zero


@dataclass(frozen=True, slots=True)
class Interval:
    """
    A figure and the middle 95% of its bootstrap distribution.

    Of a width of zero it says nothing: every resample gave the same figure, as with one subject a
    class, or with no error among few.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Write it as ``0.912 (0.850 to 0.951)``."""
        return f"{self.value:.3f} ({self.bounds()})"

    @property
    def is_estimable(self) -> bool:
        """Whether the resamples differ, so that the bounds mean something."""
        return self.low < self.high

    def bounds(self, digits: int = 3) -> str:
        """Write the bounds as ``0.850 to 0.951``, or that they could not be estimated."""
        if not self.is_estimable:
            return "interval not estimable"
        return f"{self.low:.{digits}f} to {self.high:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Scored:
    """
    Cells whose class is known, and what a model said.

    Attributes:
        classes: Names, in the order of the columns below.
        truth: ``(N,)`` class numbers.
        probability: ``(N, C)``; rows sum to 1.
        ranking: ``(N, C)``, the probabilities at temperature 1: what the AUC ranks cells by, and
            what calibration begins with.
        subjects: ``(N,)`` ids; a cell without one is a subject of its own.
        positive: Number of the positive class, or None.
        threshold: At which ``positive`` is called, one for all or ``(N,)``; None calls the
            likeliest class.
    """

    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    probability: NDArray[np.float32]
    ranking: NDArray[np.float32]
    subjects: NDArray[np.str_]
    positive: int | None
    threshold: float | NDArray[np.float64] | None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """``(N,)`` class numbers: at the threshold if there are two classes and one."""
        if self.positive is None or self.threshold is None or not self.is_binary:
            return np.asarray(self.probability.argmax(1))
        called = self.probability[:, self.positive] >= self.threshold
        return np.where(called, self.positive, 1 - self.positive)

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes: then the score of one is all there is to know."""
        return len(self.classes) == 2  # noqa: PLR2004


def figures(scored: Scored, weight: NDArray[np.float64] | None = None) -> dict[str, float]:
    """
    Compute every figure once.

    Args:
        scored: At least one cell of each class has weight above 0.
        weight: Of each cell; None weighs all the same.
    """
    counts = _confusion(scored, weight)
    right, called, labelled = counts.diagonal(), counts.sum(0), counts.sum(1)
    f1 = 2 * right / np.maximum(called + labelled, TINY)
    return {
        "accuracy": float(right.sum() / counts.sum()),
        "balanced_accuracy": float((right / np.maximum(labelled, TINY)).mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=labelled)),
        **{f"f1_{name}": float(f1[i]) for i, name in enumerate(scored.classes)},
        "auc": _auc(scored, weight),
        "log_loss": _log_loss(scored, weight),
        "ece": _top_label_error(scored.probability, scored.truth, weight),
        "ece_uncalibrated": _top_label_error(scored.ranking, scored.truth, weight),
    }


def by_subject(scored: Scored, times: NDArray[np.float64] | None = None) -> dict[str, float]:
    """
    Return mean and least of the subjects' shares called right, every subject counting the same.

    Args:
        scored: Cells.
        times: ``(N,)``, how often each cell's subject was drawn; None: once.
    """
    _, first, number = np.unique(_named(scored.subjects), return_index=True, return_inverse=True)
    share = np.bincount(number, scored.predicted == scored.truth) / np.bincount(number)
    drawn = np.ones(len(share)) if times is None else times[first]
    return {
        "subject_accuracy": float(np.average(share, weights=drawn)),
        "worst_subject_accuracy": float(share[drawn > 0].min()),
    }


def intervals(scored: Scored, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Compute every figure with its interval; resamples draw subjects within each class."""
    values, drawn = _resampled(scored, seed, resamples)
    return {n: _middle(value, [each[n] for each in drawn]) for n, value in values.items()}


def comparison(
    before: Scored, after: Scored, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[dict[str, Interval], dict[str, Interval], dict[str, Interval]]:
    """
    Compute every figure before, after, and how much more it is after, each with its interval.

    Both are of the same cells, and each resample draws the same subjects for both.
    """
    (old, olds), (new, news) = (_resampled(each, seed, resamples) for each in (before, after))
    return (
        {n: _middle(old[n], [each[n] for each in olds]) for n in old},
        {n: _middle(new[n], [each[n] for each in news]) for n in old},
        {
            n: _middle(new[n] - old[n], [b[n] - a[n] for a, b in zip(olds, news, strict=True)])
            for n in old
        },
    )


def subject_accuracies(scored: Scored) -> dict[str, tuple[str, int, float]]:
    """Return, by subject, its (first) class, number of cells, and share called right."""
    hits = scored.predicted == scored.truth
    table = {}
    for subject in np.unique(scored.subjects):
        own = scored.subjects == subject
        label = scored.classes[int(scored.truth[own][0])]
        table[str(subject)] = (label, int(own.sum()), float(hits[own].mean()))
    return table


def calibration_sums(
    probability_N: NDArray[np.floating],
    true_N: NDArray[np.bool_],
    weight_N: NDArray[np.float64] | None = None,
    bins: int = BINS,
) -> NDArray[np.float64]:
    """
    Sum cells by bins of their probability; sums of parts of the cells add up to those of all.

    Args:
        probability_N: ``(N,)`` in 0..1, that a cell is something.
        true_N: ``(N,)``, whether it is.
        weight_N: ``(N,)``; None weighs all the same.
        bins: B, equally wide.

    Returns:
        ``(3, B)``: sums of the weights, of weight times probability, of weight times truth.
    """
    weight = np.ones(len(true_N)) if weight_N is None else weight_N
    place = np.minimum((probability_N * bins).astype(np.int64), bins - 1)
    summed = (weight, weight * probability_N, weight * true_N)
    return np.stack([np.bincount(place, each, bins) for each in summed])


def expected_calibration_error(sums_3B: NDArray[np.float64]) -> float | None:
    """
    Return the mean gap between probability and truth over the bins of ``calibration_sums``.

    Bins weigh as their cells do (Naeini et al., AAAI 2015; Guo et al., ICML 2017). None of no cell.
    """
    weight, probability, true = sums_3B
    if not weight.sum():
        return None
    return float(np.abs(true - probability).sum() / weight.sum())


def confusion(scored: Scored) -> NDArray[np.int64]:
    """Return ``(C, C)`` counts, truth by row."""
    return _confusion(scored, None).astype(np.int64)


def _log_loss(scored: Scored, weight_N: NDArray[np.float64] | None) -> float:
    """Return the mean of minus the logarithm of the true class's probability."""
    chance_N = scored.probability[np.arange(len(scored.truth)), scored.truth].astype(np.float64)
    return float(np.average(-np.log(np.maximum(chance_N, TINY)), weights=weight_N))


def _top_label_error(
    probability_NC: NDArray[np.float32],
    truth_N: NDArray[np.int64],
    weight_N: NDArray[np.float64] | None,
) -> float:
    """Return the expected calibration error of the likeliest class."""
    right = probability_NC.argmax(1) == truth_N
    error = expected_calibration_error(calibration_sums(probability_NC.max(1), right, weight_N))
    assert error is not None  # figures are of at least one cell
    return error


def _confusion(scored: Scored, weight: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Sum weights by class, truth by row: ten times as fast as scikit-learn's, for a bootstrap."""
    size = len(scored.classes)
    cell = scored.truth * size + scored.predicted
    summed = np.bincount(cell, weight, size * size).astype(np.float64)
    return summed.reshape(size, size)


def _auc(scored: Scored, weight: NDArray[np.float64] | None) -> float:
    """Return the area under the ROC curve; of many classes, the mean of each against the rest."""
    weight = np.ones(len(scored.truth)) if weight is None else weight
    columns: Sequence[int] = range(len(scored.classes))
    if scored.is_binary:
        columns = range(1, 2) if scored.positive is None else [scored.positive]
    areas = [_area(scored.ranking[:, i], scored.truth == i, weight) for i in columns]
    return float(np.mean(areas))


def _area(
    score_N: NDArray[np.float32], positive_N: NDArray[np.bool_], weight_N: NDArray[np.float64]
) -> float:
    """Return how often a positive scores above a negative, ties half: again for a bootstrap."""
    _, place = np.unique(score_N, return_inverse=True)
    positives = np.bincount(place, weight_N * positive_N)
    negatives = np.bincount(place, weight_N * ~positive_N)
    below = negatives.cumsum() - negatives / 2
    return float((positives * below).sum() / (positives.sum() * negatives.sum()))


def _draws(scored: Scored, seed: int, resamples: int) -> list[NDArray[np.float64]]:
    """Return weights ``(N,)``: how often each cell's subject was drawn."""
    rng = np.random.default_rng(seed)
    _, number = np.unique(_named(scored.subjects), return_inverse=True)
    strata: defaultdict[int, list[int]] = defaultdict(list)
    for subject in range(number.max() + 1):
        strata[int(np.bincount(scored.truth[number == subject]).argmax())].append(subject)
    draws = []
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(own, len(own)) for own in strata.values()])
        draws.append(np.bincount(drawn, minlength=number.max() + 1)[number].astype(float))
    return draws


def _resampled(
    scored: Scored, seed: int, resamples: int
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Compute every figure of the cells, and of each resample of their subjects."""
    drawn = [
        figures(_kept(scored, times > 0), times[times > 0]) | by_subject(scored, times)
        for times in _draws(scored, seed, resamples)
    ]
    return figures(scored) | by_subject(scored), drawn


def _middle(value: float, drawn: list[float]) -> Interval:
    """Put the middle 95% of the resamples beside a figure."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _named(subjects: NDArray[np.str_]) -> NDArray[np.str_]:
    """Make a subject of each cell without one."""
    return np.array([subject or f"cell {i}" for i, subject in enumerate(subjects.tolist())])


def _kept(scored: Scored, keep: NDArray[np.bool_]) -> Scored:
    """Leave out cells."""
    threshold = scored.threshold
    return Scored(
        scored.classes,
        scored.truth[keep],
        scored.probability[keep],
        scored.ranking[keep],
        scored.subjects[keep],
        scored.positive,
        threshold[keep] if isinstance(threshold, np.ndarray) else threshold,
    )

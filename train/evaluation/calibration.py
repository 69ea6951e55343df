"""
A bundle's operating point, from held-out subjects: its temperature and its threshold.

Legend: N cells, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss, roc_curve

from engines.metrics import Scored
from engines.uncertainty import probabilities

__all__ = [
    "THRESHOLD_RULE",
    "Fit",
    "OperatingPoint",
    "cross_fitted",
    "fitted_point",
    "fitted_temperature",
    "fitted_threshold",
]

THRESHOLD_RULE = (
    "the calibrated probability with the largest sensitivity plus specificity over the held-out "
    "cells (Youden's index)"
)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What turns logits into calibrated probabilities, and those into calls."""

    temperature: float
    threshold: float | None


Fit = Callable[[NDArray[np.float32], NDArray[np.int64], int | None], OperatingPoint]


def fitted_point(
    logits_NC: NDArray[np.float32], truth_N: NDArray[np.int64], positive: int | None
) -> OperatingPoint:
    """Fit the temperature by log loss, then the threshold of the positive class, if any."""
    temperature = fitted_temperature(logits_NC, truth_N)
    if positive is None:
        return OperatingPoint(temperature, None)
    score = probabilities(logits_NC, temperature)[:, positive]
    return OperatingPoint(temperature, fitted_threshold(score, truth_N == positive))


def fitted_temperature(logits_NC: NDArray[np.float32], truth_N: NDArray[np.int64]) -> float:
    """Return the temperature, between 1/20 and 20, of the least log loss."""
    labels = list(range(logits_NC.shape[1]))

    def loss(log_temperature: float) -> float:
        shown = probabilities(logits_NC, float(np.exp(log_temperature))).astype(np.float64)
        return float(log_loss(truth_N, shown / shown.sum(1, keepdims=True), labels=labels))

    bound = float(np.log(20))
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


def fitted_threshold(score_N: NDArray[np.float32], positive_N: NDArray[np.bool_]) -> float:
    """
    Return the threshold of the largest sensitivity plus specificity (Youden's index).

    Of the scores between which it may lie, the middle; always inside 0.01 to 0.99.
    """
    false_rate, true_rate, thresholds = roc_curve(positive_N, score_N.astype(np.float64))
    best = int(np.argmax(true_rate - false_rate))
    above = thresholds[best]
    below = score_N[score_N < above].max(initial=0.0)
    return float(np.clip((min(above, 1.0) + below) / 2, 0.01, 0.99))


def cross_fitted(
    logits_NC: NDArray[np.float32],
    truth_N: NDArray[np.int64],
    subjects_N: NDArray[np.str_],
    meaning: tuple[tuple[str, ...], int | None],
    fit: Fit = fitted_point,
) -> Scored:
    """
    Score each held-out subject at the operating point that the other subjects give.

    A point fitted and judged on the same cells looks better than it is. Where the others lack a
    class, all serve.

    Args:
        logits_NC: Of the cells.
        truth_N: Class numbers.
        subjects_N: Whose cells they are.
        meaning: The classes, and the number of the positive one, if any.
        fit: Gives a point for logits, truth and the positive class, as ``fitted_point`` does.
    """
    classes, positive = meaning
    probability = np.empty_like(logits_NC)
    threshold = np.full(len(truth_N), 0.5)
    for subject in np.unique(subjects_N):
        own = subjects_N == subject
        others = ~own if len(np.unique(truth_N[~own])) == len(classes) else np.ones_like(own)
        point = fit(logits_NC[others], truth_N[others], positive)
        probability[own] = probabilities(logits_NC[own], point.temperature)
        threshold[own] = 0.5 if point.threshold is None else point.threshold
    called = threshold if positive is not None else None
    ranking = probabilities(logits_NC, 1.0)
    return Scored(classes, truth_N, probability, ranking, subjects_N, positive, called)

"""Figures are those of the library, and their intervals those of whole subjects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from engines.metrics import (
    Interval,
    Scored,
    by_subject,
    calibration_error,
    confusion,
    figures,
    fitted_temperature,
    fitted_threshold,
    intervals,
    subject_accuracies,
)
from engines.uncertainty import probabilities
from train.evaluation.calibration import cross_fitted, fitted_point


def scored(seed=0, n=200, classes=("all", "hem"), threshold=0.4):
    """Make scores that are right more often than not, of ten subjects."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % len(classes)
    logits = rng.normal(size=(n, len(classes))) + 1.2 * np.eye(len(classes))[truth]
    shown = probabilities(logits.astype(np.float32), 1.0)
    subjects = np.array([f"{t}-{i // 2 % 5}" for i, t in enumerate(truth)])
    return Scored(classes, truth, shown, shown, subjects, 0, threshold)


@pytest.mark.parametrize("classes", [("all", "hem"), ("a", "b", "c")])
def test_figures_are_those_of_scikit_learn(classes):
    """Accuracy and F1 are computed fast, and equal the library's."""
    made = scored(classes=classes)

    found = figures(made)

    truth, predicted = made.truth, made.predicted
    assert found["accuracy"] == pytest.approx((truth == predicted).mean())
    assert found["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found["weighted_f1"] == pytest.approx(f1_score(truth, predicted, average="weighted"))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    areas = [roc_auc_score(truth == i, made.ranking[:, i]) for i in range(len(classes))]
    assert found["auc"] == pytest.approx(np.mean(areas))


@given(st.integers(0, 1000))
def test_a_weight_of_two_is_a_cell_shown_twice(seed):
    """Weighted figures are those of the resample that the weights stand for."""
    made = scored(seed, n=40)
    times = np.random.default_rng(seed).integers(1, 4, 40)
    repeated = np.repeat(np.arange(40), times)
    longer = Scored(
        made.classes, made.truth[repeated], made.probability[repeated], made.ranking[repeated],
        made.subjects[repeated], made.positive, made.threshold,
    )  # fmt: skip

    assert figures(made, times.astype(float)) == pytest.approx(figures(longer))


def test_intervals_hold_their_figure_and_repeat():
    """The same seed draws the same subjects."""
    one, two = intervals(scored(), resamples=100), intervals(scored(), resamples=100)

    assert one == two
    assert all(figure.low <= figure.value <= figure.high for figure in one.values())


def test_intervals_draw_subjects_and_not_cells():
    """Cells that only repeat their subject narrow nothing."""
    few, many = scored(n=20, seed=3), scored(n=20, seed=3)
    repeated = np.repeat(np.arange(20), 30)
    many = Scored(
        few.classes, few.truth[repeated], few.probability[repeated], few.ranking[repeated],
        few.subjects[repeated], 0, 0.4,
    )  # fmt: skip

    one, two = intervals(few, resamples=100)["auc"], intervals(many, resamples=100)["auc"]

    assert (one.low, one.high) == pytest.approx((two.low, two.high))


def test_the_threshold_moves_calls_and_not_the_auc():
    """The AUC judges the ranking alone."""
    low, high = figures(scored(threshold=0.1)), figures(scored(threshold=0.9))

    assert low["auc"] == high["auc"]
    assert low["accuracy"] != high["accuracy"]


def test_confusion_counts_truth_by_row():
    """One positive cell missed lies in the positive row."""
    shown = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9]], np.float32)
    made = Scored(("a", "b"), np.array([0, 0, 1]), shown, shown, np.array(["x", "y", "z"]), 0, 0.5)

    assert confusion(made).tolist() == [[1, 1], [0, 1]]
    assert subject_accuracies(made) == {"x": ("a", 1, 1.0), "y": ("a", 1, 0.0), "z": ("b", 1, 1.0)}
    assert by_subject(made) == {"subject_accuracy": 2 / 3, "worst_subject_accuracy": 0.0}
    drawn = by_subject(made, np.array([3.0, 0.0, 1.0]))
    assert drawn == {"subject_accuracy": 1.0, "worst_subject_accuracy": 1.0}
    assert by_subject(made, np.array([3.0, 1.0, 0.0]))["subject_accuracy"] == 0.75


def test_calibration_error_is_nought_for_the_sure_and_right():
    """And the confidence itself for the sure and wrong."""
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)

    assert calibration_error(sure, np.array([0, 1])) == 0
    assert calibration_error(sure, np.array([1, 0])) == 1


def test_the_temperature_of_overconfident_logits_is_found():
    """Logits three times too large get a temperature of about three."""
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 2)) * 1.5
    truth = (rng.random(20_000) < probabilities(honest.astype(np.float32), 1.0)[:, 1]).astype(int)

    assert fitted_temperature((3 * honest).astype(np.float32), truth) == pytest.approx(3, rel=0.05)


def test_the_threshold_separates_what_can_be_separated():
    """It lies between the classes, not on a score."""
    score = np.array([0.1, 0.2, 0.6, 0.7], np.float32)

    assert fitted_threshold(score, np.array([False, False, True, True])) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=30))
def test_a_threshold_is_always_one_a_bundle_takes(rows):
    """Between 0 and 1, whatever the scores."""
    score, positive = (np.array(column) for column in zip(*rows, strict=True))
    if positive.all() or not positive.any():
        return

    assert 0 < fitted_threshold(score.astype(np.float32), positive) < 1


def test_cross_fitting_never_uses_the_subject_it_scores():
    """A subject's own labels do not change how it is scored."""
    rng = np.random.default_rng(1)
    truth = np.arange(60) % 2
    subjects = np.array([str(i % 6) for i in range(60)])
    logits = rng.normal(size=(60, 2)).astype(np.float32)
    own = subjects == "2"

    one = cross_fitted(logits, truth, subjects, ("a", "b"), 0)
    two = cross_fitted(logits, np.where(own, 1 - truth, truth), subjects, ("a", "b"), 0)

    assert np.array_equal(one.probability[own], two.probability[own])
    assert np.array_equal(one.predicted[own], two.predicted[own])
    assert not np.array_equal(one.probability[~own], two.probability[~own])


def test_without_a_positive_class_there_is_no_threshold():
    """The likeliest class is called."""
    rng = np.random.default_rng(1)
    logits, truth = rng.normal(size=(30, 3)).astype(np.float32), np.arange(30) % 3

    assert fitted_point(logits, truth, None).threshold is None
    made = cross_fitted(logits, truth, np.array(["x"] * 30), ("a", "b", "c"), None)
    assert np.array_equal(made.predicted, logits.argmax(1))


def test_an_interval_reads_as_one():
    """Figures are printed one way everywhere."""
    assert str(Interval(0.9, 0.85, 0.951)) == "0.900 (0.850 to 0.951)"

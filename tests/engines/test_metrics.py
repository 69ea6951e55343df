"""Figures are those of the library, and their intervals those of whole subjects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

from engines.metrics import (
    Interval,
    Scored,
    by_subject,
    calibration_sums,
    confusion,
    expected_calibration_error,
    figures,
    intervals,
    subject_accuracies,
)
from engines.uncertainty import probabilities


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
    shown = made.probability.astype(float)
    assert found["log_loss"] == pytest.approx(
        log_loss(truth, shown / shown.sum(1, keepdims=True)), abs=1e-6
    )


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
    subjects = np.array(["x", "y"])

    for truth, error in ((np.array([0, 1]), 0), (np.array([1, 0]), 1)):
        assert figures(Scored(("a", "b"), truth, sure, sure, subjects, 0, 0.5))["ece"] == error


def test_calibration_sums_of_parts_add_up():
    """A stream of cells gives the error of all of them at once; no cell gives none."""
    rng = np.random.default_rng(0)
    probability, true = rng.random(90), rng.random(90) < 0.7

    whole = calibration_sums(probability, true, bins=10)
    parts = sum(calibration_sums(probability[i::3], true[i::3], bins=10) for i in range(3))

    assert parts == pytest.approx(whole)
    place = (probability * 10).astype(int)
    gaps = [
        abs(true[place == i].mean() - probability[place == i].mean()) * (place == i).mean()
        for i in range(10)
    ]
    assert expected_calibration_error(whole) == pytest.approx(sum(gaps))
    assert expected_calibration_error(np.zeros((3, 10))) is None


def test_an_interval_reads_as_one():
    """Figures are printed one way everywhere."""
    assert str(Interval(0.9, 0.85, 0.951)) == "0.900 (0.850 to 0.951)"


def test_an_interval_without_width_is_not_shown_as_certainty():
    """One subject a class: every resample is the same, so nothing is known of the spread."""
    made = scored(n=40)
    alone = Scored(
        made.classes, made.truth, made.probability, made.ranking,
        made.truth.astype(str), made.positive, made.threshold,
    )  # fmt: skip

    figure = intervals(alone, resamples=20)["auc"]

    assert not figure.is_estimable
    assert str(figure) == f"{figure.value:.3f} (interval not estimable)"
    assert figure.bounds(4) == "interval not estimable"

"""The operating point is found, and no subject has a part in how it is judged itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.uncertainty import probabilities
from train.evaluation.calibration import (
    cross_fitted,
    fitted_point,
    fitted_temperature,
    fitted_threshold,
)


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

    one = cross_fitted(logits, truth, subjects, (("a", "b"), 0))
    two = cross_fitted(logits, np.where(own, 1 - truth, truth), subjects, (("a", "b"), 0))

    assert np.array_equal(one.probability[own], two.probability[own])
    assert np.array_equal(one.predicted[own], two.predicted[own])
    assert not np.array_equal(one.probability[~own], two.probability[~own])


def test_without_a_positive_class_there_is_no_threshold():
    """The likeliest class is called."""
    rng = np.random.default_rng(1)
    logits, truth = rng.normal(size=(30, 3)).astype(np.float32), np.arange(30) % 3

    assert fitted_point(logits, truth, None).threshold is None
    made = cross_fitted(logits, truth, np.array(["x"] * 30), (("a", "b", "c"), None))
    assert np.array_equal(made.predicted, logits.argmax(1))

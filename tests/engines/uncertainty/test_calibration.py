"""The class that a cell is called: it never contradicts the call at the threshold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.uncertainty import positives, predictions


def bundle_of(count, positive=0, threshold=0.3):
    """Return what the rule reads of a bundle of *count* classes."""
    classes = tuple("abcde"[:count])
    named = None if positive is None else classes[positive]
    return SimpleNamespace(
        classes=classes, positive=named, threshold=None if named is None else threshold
    )


@pytest.mark.parametrize(
    ("chances", "expected"),
    [
        ([0.31, 0.69], 0),  # called, though the other class is more likely
        ([0.29, 0.71], 1),
        ([0.30, 0.30, 0.40], 0),  # at the threshold
        ([0.25, 0.35, 0.40], 2),
    ],
)
def test_the_positive_class_is_predicted_from_its_threshold_on(chances, expected):
    """Below it the most likely of the others is."""
    chances = np.array([chances], np.float64)

    assert predictions(chances, bundle_of(chances.shape[1])).tolist() == [expected]


def test_a_high_threshold_leaves_a_likely_positive_class_unpredicted():
    """A cell that is not called is of another class, even where the positive one is likelier."""
    assert predictions(np.array([[0.8, 0.2]]), bundle_of(2, threshold=0.9)).tolist() == [1]


def test_without_a_positive_class_the_most_likely_is_predicted():
    """Of all classes."""
    assert predictions(np.array([[0.2, 0.5, 0.3]]), bundle_of(3, None)).tolist() == [1]


@given(
    weights=st.lists(st.lists(st.integers(1, 100), min_size=3, max_size=3), min_size=1),
    threshold=st.floats(0.01, 1),
    positive=st.integers(0, 2),
)
def test_prediction_and_call_never_contradict(weights, threshold, positive):
    """Predicted is the positive class exactly where the cell is called."""
    chances = np.array(weights, np.float64)
    chances = (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)
    bundle = bundle_of(3, positive, threshold)

    called = positives(chances, bundle)

    assert ((predictions(chances, bundle) == positive) == called).all()

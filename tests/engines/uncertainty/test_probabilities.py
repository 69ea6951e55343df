"""Logits as calibrated probabilities, and which of them are called positive."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.uncertainty import positives, probabilities


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0.05, 20),
)
def test_probabilities_are_probabilities(logits, temperature):
    """Rows are between 0 and 1, sum to 1, and keep the order of the logits."""
    values = np.array(logits, np.float32)

    chances = probabilities(values, temperature)

    assert chances.min() >= 0
    assert np.abs(chances.sum(axis=1) - 1).max() < 1e-5
    assert (chances.max(axis=1) == chances[np.arange(len(values)), values.argmax(axis=1)]).all()


def test_a_probability_at_the_threshold_is_positive(bundle):
    """The operating point itself is called."""
    column = bundle.classes.index("all")
    chances = np.full((3, 2), 0.5, np.float32)
    chances[0, column] = np.nextafter(np.float32(0.5), np.float32(0))

    assert positives(chances, bundle).tolist() == [False, True, True]


def test_without_a_positive_class_nothing_is_called(three_classes):
    """Null is not False."""
    assert positives(np.ones((2, 3), np.float32) / 3, three_classes) is None

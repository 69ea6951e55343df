"""The cells most like a cell."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from screen.report.content import nearest as module
from screen.report.content.nearest import nearest


def test_the_nearest_are_scipys(monkeypatch):
    """However the cells are cut into blocks; never the cell itself, even where two are the same."""
    monkeypatch.setattr(module, "BLOCK", 7)
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    features[3] = features[30]
    distance = cdist(features, features)
    np.fill_diagonal(distance, np.inf)

    found = nearest(features, 4)

    assert found == np.argsort(distance, axis=1, kind="stable")[:, :4].tolist()
    assert found[3][0] == 30


def test_few_cells_have_few_neighbours():
    """One less than there are."""
    assert nearest(np.eye(3, dtype=np.float32)) == [[1, 2], [0, 2], [0, 1]]

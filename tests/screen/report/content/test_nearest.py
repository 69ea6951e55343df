"""The cells most like a cell."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy.spatial.distance import cdist

from screen.report.content import nearest as module
from screen.report.content.cell_reader import CellRows
from screen.report.content.nearest import nearest, within_reach


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


def test_of_many_cells_the_parts_of_the_most_urgent_are_read(monkeypatch):
    """As many as can be read in time; all, if they can."""
    schema = pa.schema([pa.field("embedding", pa.list_(pa.float16(), 2))])
    rows = CellRows(("one", "two", "three"), (0, 10, 20, 30), schema)
    chosen = [25, 21, 3, 15, 29]

    assert within_reach(rows, chosen) == [3, 15, 21, 25, 29]
    monkeypatch.setattr(module, "MOST_FEATURES", 40)
    assert within_reach(rows, chosen) == [3, 21, 25, 29]
    monkeypatch.setattr(module, "MOST_FEATURES", 10)
    assert within_reach(rows, chosen) == []

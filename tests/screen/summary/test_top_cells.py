"""The first cells of every slide, by whatever value."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from screen.summary.top_cells import TopCells


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0, math.nan]))),
    count=st.integers(1, 4),
    cut=st.integers(1, 7),
)
def test_top_cells_are_the_first_of_each_slide_however_rows_come(rows, count, cut):
    """As sorting all of them would find; of equals the earlier; never what is no number."""
    found = TopCells(count, slack=3)

    for start in range(0, len(rows), cut):
        some = rows[start : start + cut]
        slides, values = (np.array(column) for column in zip(*some, strict=True))
        found.add(slides, values, np.arange(start, start + len(some)))

    expected = defaultdict(list)
    numbers = [(row, *pair) for row, pair in enumerate(rows) if not math.isnan(pair[1])]
    for row, slide, _ in sorted(numbers, key=lambda each: (-each[2], each[0])):
        expected[slide].append(row)
    assert found.ranked() == {slide: rows[:count] for slide, rows in expected.items()}

"""The first few cells of every slide by some value, found in one pass over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TopCells"]

SLACK = 200_000  # rows gathered between two sorts: 4 MB


class TopCells:
    """
    Keeps the *count* rows of each slide with the highest value; memory grows with slides alone.

    Of equal values the earlier row comes first, so that the answer does not depend on how the rows
    were cut into batches.
    """

    def __init__(self, count: int, slack: int = SLACK) -> None:
        """Keep up to *count* of each slide, and *slack* rows until they are sorted."""
        self._count = count
        self._slack = slack
        self._slide = np.empty(0, np.int64)
        self._value = np.empty(0, np.float64)
        self._row = np.empty(0, np.int64)
        self._sorted = 0

    def add(self, slide_N: NDArray[Any], value_N: NDArray[Any], row_N: NDArray[Any]) -> None:
        """Take in N rows: slide (an index), value, row; a value that is no number never counts."""
        good = np.isfinite(value_N)
        self._slide = np.concatenate([self._slide, slide_N[good]])
        self._value = np.concatenate([self._value, value_N[good]])
        self._row = np.concatenate([self._row, row_N[good]])
        if len(self._row) - self._sorted > max(self._slack, self._sorted):
            self._drop()

    def ranked(self) -> dict[int, list[int]]:
        """Return the first rows of each slide that has any, best first."""
        self._drop()
        starts = np.flatnonzero(np.diff(self._slide, prepend=-1))
        rows = np.split(self._row, starts[1:])
        names = self._slide[starts].tolist()
        return {name: group.tolist() for name, group in zip(names, rows, strict=False)}

    def _drop(self) -> None:
        """Drop every row that cannot be among the first any more."""
        order = np.lexsort((self._row, -self._value, self._slide))
        slide = self._slide[order]
        place = np.arange(len(order))
        first = np.maximum.accumulate(np.where(np.diff(slide, prepend=-1) != 0, place, 0))
        kept = order[place - first < self._count]
        self._slide, self._value = self._slide[kept], self._value[kept]
        self._row, self._sorted = self._row[kept], len(kept)

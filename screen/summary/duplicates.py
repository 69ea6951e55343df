"""
Cells whose files are the same, byte for byte, over a whole run.

Known only when the last part is there, and parts never change; so they have a table of their own,
made from the parts alone: the same after a kill and a resume. 24 bytes of memory per cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from screen.results.schema import duplicate_schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ContentHashes", "Rows"]


class Rows(Protocol):
    """A table of which single rows can be had: a plan is one, and so is a table of Arrow's."""

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return some rows, in any order."""
        ...


class ContentHashes:
    """The hashes of a run's cells, gathered in the order of the plan."""

    def __init__(self) -> None:
        """Start with none."""
        self._hashes = [np.empty(0, np.uint64)]
        self._rows = [np.empty(0, np.int64)]
        self._seen = 0

    def add(self, hashes: pa.Array) -> None:
        """Take in the next cells' hashes, 32 hex digits each; null for a file never read."""
        known = hashes.drop_null().to_pylist()
        valid = hashes.is_valid().to_numpy(zero_copy_only=False)
        self._hashes.append(np.frombuffer(bytes.fromhex("".join(known)), np.uint64))
        self._rows.append(self._seen + np.flatnonzero(valid))
        self._seen += len(hashes)

    def duplicates(self, plan: Rows) -> pa.Table:
        """
        List every cell but the first of those with the same content, in the order of the plan.

        Args:
            plan: Gives the cells' ``path`` and ``slide``.
        """
        hashes_n2 = np.concatenate(self._hashes).reshape(-1, 2)
        repeats, firsts = map(plan.take, _repeats(hashes_n2, np.concatenate(self._rows)))
        return pa.table(
            {
                "path": repeats["path"],
                "slide": repeats["slide"].cast(pa.string()),
                "duplicate_of": firsts["path"],
                "duplicate_of_slide": firsts["slide"].cast(pa.string()),
            },
            schema=duplicate_schema(),
        )


def _repeats(
    hashes_n2: NDArray[np.uint64], rows_n: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of repeats, ascending, and the first row of the same content for each."""
    order = np.lexsort((hashes_n2[:, 1], hashes_n2[:, 0]))  # stable: rows ascend among equals
    hashes, rows = hashes_n2[order], rows_n[order]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (hashes[1:] != hashes[:-1]).any(1)
    firsts = rows[is_first][np.cumsum(is_first) - 1]
    repeats, firsts = rows[~is_first], firsts[~is_first]
    order = np.argsort(repeats)
    return repeats[order], firsts[order]

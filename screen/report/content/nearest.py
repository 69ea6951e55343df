"""The cells most like a cell, among those that the report shows with a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from screen.report.content.cell_reader import CellRows

__all__ = ["EMBEDDING", "nearest", "read_embeddings", "within_reach"]

EMBEDDING = "embedding"
NEAREST = 6
BLOCK = 512  # cells compared with all others at a time
MOST_FEATURES = 300_000_000  # read from the parts: 10 s; a part can only be read as a whole


def within_reach(rows: CellRows, chosen: Sequence[int]) -> list[int]:
    """
    Return those of the *chosen* rows whose features can be read in time, ascending.

    The parts of the first are read, until they hold more than ``MOST_FEATURES``; a run of fewer
    is read as a whole.

    Args:
        rows: Of the results.
        chosen: Rows, the most urgent first.
    """
    length = rows.schema.field(EMBEDDING).type.list_size
    cells_of_part = np.diff(rows.starts)
    part_of_chosen = np.searchsorted(rows.starts, np.asarray(chosen), side="right") - 1
    parts = np.array(list(dict.fromkeys(part_of_chosen.tolist())), np.int64)
    read = parts[np.cumsum(cells_of_part[parts]) * length <= MOST_FEATURES]
    kept = np.asarray(chosen)[np.isin(part_of_chosen, read)]
    return [int(row) for row in np.sort(kept)]


def read_embeddings(rows: CellRows, chosen: Sequence[int]) -> NDArray[np.float32]:
    """Return ``(N, F)``: the pooled features of the *chosen* rows, which ascend."""
    found = [
        np.asarray(batch[EMBEDDING].flatten().to_numpy(zero_copy_only=False), np.float32)
        for batch in rows.take(chosen, [EMBEDDING])
    ]
    return np.concatenate(found).reshape(len(chosen), -1)


def nearest(features_NF: NDArray[np.float32], count: int = NEAREST) -> list[list[int]]:
    """
    Return for each of N cells the *count* others nearest to it (Euclidean), the nearest first.

    Cells at the same distance keep their order.
    """
    count = min(count, len(features_NF) - 1)
    square_N = np.einsum("nf,nf->n", features_NF, features_NF, dtype=np.float64)
    found: list[list[int]] = []
    for start in range(0, len(features_NF), BLOCK):
        block_BF = features_NF[start : start + BLOCK]
        distance_BN = square_N - 2.0 * (block_BF @ features_NF.T)
        own = np.arange(len(block_BF))
        distance_BN[own, start + own] = np.inf
        found.extend(np.argsort(distance_BN, axis=1, kind="stable")[:, :count].tolist())
    return found

"""The most suspicious cells of every slide, kept while the cells pass by."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

__all__ = ["TopCells"]

KEPT = 10  # per slide
BUFFERED = 200_000  # rows gathered before the rest is dropped; twice as many as kept, if more


class TopCells:
    """The paths of each slide's cells with the highest scores; ties go to the first come."""

    def __init__(self) -> None:
        """Begin with none."""
        self._kept = pa.table(
            {
                "slide": pa.array([], pa.string()),
                "path": pa.array([], pa.string()),
                "score": pa.array([], pa.float32()),
                "row": pa.array([], pa.int64()),
            }
        )
        self._waiting: list[pa.Table] = []
        self._seen = self._count = 0

    def add(self, slides: pa.Array, paths: pa.Array, scores: pa.Array) -> None:
        """Take cells in; those without a score do not count."""
        rows = pa.array(np.arange(self._seen, self._seen + len(scores)))
        self._seen += len(scores)
        table = pa.table([slides.cast(pa.string()), paths, scores, rows], schema=self._kept.schema)
        self._waiting.append(table.filter(scores.is_valid()))
        self._count += len(self._waiting[-1])
        if self._count > max(BUFFERED, 2 * len(self._kept)):
            self._drop()

    def paths(self) -> dict[str, list[str]]:
        """Return them by slide, highest first."""
        self._drop()
        found: dict[str, list[str]] = {}
        columns = (self._kept[name].to_pylist() for name in ("slide", "path"))
        for slide, path in zip(*columns, strict=True):
            found.setdefault(slide, []).append(path)
        return found

    def _drop(self) -> None:
        """Keep the first of each slide."""
        every = pa.concat_tables([self._kept, *self._waiting])
        order = [("slide", "ascending"), ("score", "descending"), ("row", "ascending")]
        every = every.sort_by(order)
        codes = every["slide"].combine_chunks().dictionary_encode().indices.to_numpy()
        begins = np.flatnonzero(np.diff(codes, prepend=-1))
        place = np.arange(len(codes)) - np.repeat(begins, np.diff(begins, append=len(codes)))
        self._kept = every.filter(pa.array(place < KEPT))
        self._waiting, self._count = [], 0

"""The cells of a results folder, streamed in the order of the plan, and single rows of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engines.errors import ResultsError
from engines.files import native_file
from screen.results.parts import whole_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.locations import Location
    from screen.results.folder import ResultsFolder
    from screen.results.run_record import RunRecord

__all__ = ["AGAIN_HINT", "CellRows"]

BATCH_ROWS = 65_536
AGAIN_HINT = "run the same command again to the end, then make the report"


@dataclass(frozen=True, slots=True)
class CellRows:
    """
    The parts of a run that is done.

    Attributes:
        parts: Their files, in order.
        starts: The number of the first row of each, and last the number of rows in all.
        schema: Of every part.
    """

    parts: tuple[Location, ...]
    starts: tuple[int, ...]
    schema: pa.Schema

    @classmethod
    def of(cls, results: ResultsFolder, record: RunRecord) -> CellRows:
        """
        Open the parts that run.json speaks of.

        Raises:
            ResultsError: If a part is damaged or of another run, or some are missing.
        """
        whole = whole_parts(results, record.fingerprint.digest)
        parts = tuple(whole)
        starts = np.cumsum([0, *(part.rows for part in whole.values())]).tolist()
        counted = record.counts.cells if record.counts else 0
        if starts[-1] != counted:
            raise ResultsError(
                f"{results.path} holds {starts[-1]:,} cells, its run.json counts {counted:,}",
                hint=AGAIN_HINT,
            )
        return cls(parts, tuple(starts), _schema(parts[0]))

    def __len__(self) -> int:
        """Count the cells."""
        return self.starts[-1]

    def batches(self, columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the number of the first row of some rows, and their *columns*."""
        for part, start in zip(self.parts, self.starts, strict=False):
            with (
                native_file(part) as file,
                pq.ParquetFile(file, page_checksum_verification=True) as table,
            ):
                row = start
                for batch in table.iter_batches(BATCH_ROWS, columns=list(columns)):
                    yield row, batch
                    row += len(batch)

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield *columns* of the given rows, which ascend, in that order, a few at a time."""
        wanted = np.asarray(rows, np.int64)
        for part, (start, end) in zip(self.parts, pairwise(self.starts), strict=True):
            if not np.any((wanted >= start) & (wanted < end)):
                continue
            only = type(self)((part,), (start, end), self.schema)
            for first, batch in only.batches(columns):
                here = wanted[(wanted >= first) & (wanted < first + len(batch))]
                if len(here):
                    yield batch.take(pa.array(here - first))


def _schema(part: Location) -> pa.Schema:
    """Return what every part has for columns."""
    with native_file(part) as file:
        return pq.read_schema(file)

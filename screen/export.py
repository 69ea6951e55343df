"""Results as CSV, for programs that do not read Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import csv

from engines.errors import ResultsError
from engines.files import whole_file
from screen.results import ResultsFolder, native_file, open_results, writing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_csv"]


def write_csv(results: Path, path: Path, *, slides: bool = False) -> int:
    """
    Write the cells of a results folder, or its slides, as UTF-8 CSV with a header.

    Returns:
        How many rows.

    Raises:
        ResultsError: If there are no results, or *path* cannot be written.
    """
    data = _slides(ResultsFolder(results)) if slides else open_results(results)
    rows = 0
    with (
        writing(path),
        whole_file(path) as scratch,
        native_file(scratch, "wb") as file,
        csv.CSVWriter(file, data.schema) as writer,
    ):
        for batch in data.to_batches():
            writer.write_batch(batch)
            rows += len(batch)
    return rows


def _slides(results: ResultsFolder) -> ds.Dataset:
    """Open slides.parquet."""
    if not results.slides.exists():
        raise ResultsError(
            f"{results.path} has no slides.parquet",
            hint="it is written when a run ends: run it again to the end",
        )
    with native_file(results.slides) as file:
        return ds.dataset(pq.read_table(file))

"""Results as CSV, for programs that do not read Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import csv

from engines.errors import ResultsError
from engines.files import native_file, whole_file
from screen.results.folder import ResultsFolder, open_results
from screen.results.parts import whole_parts
from screen.results.table_records import check_table
from screen.results.tables import read_table, writing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_csv"]


def write_csv(results: Path, path: Path, *, slides: bool = False) -> int:
    """
    Write the cells of a results folder, or its slides, as UTF-8 CSV with a header.

    Lists of names become one text with ``|`` between them; evidence maps are left out.

    Returns:
        How many rows.

    Raises:
        ResultsError: If there are no results, a table is damaged, or *path* cannot be written.
    """
    data = _slides(ResultsFolder(results)) if slides else _cells(ResultsFolder(results))
    header = _flat(data.schema.empty_table()).schema
    rows = 0
    with (
        writing(path),
        whole_file(path) as scratch,
        native_file(scratch, "wb") as file,
        csv.CSVWriter(file, header) as writer,
    ):
        for batch in data.to_batches():
            writer.write_table(_flat(pa.Table.from_batches([batch])))
            rows += len(batch)
    return rows


def _flat(table: pa.Table) -> pa.Table:
    """Bring a table into columns that CSV can hold."""
    columns = {}
    for field in table.schema:
        if pa.types.is_list(field.type):
            columns[field.name] = pc.binary_join(table[field.name], "|")
        elif not pa.types.is_fixed_size_list(field.type):
            columns[field.name] = table[field.name]
    return pa.table(columns)


def _cells(results: ResultsFolder) -> ds.Dataset:
    """Open the parts, each of them whole."""
    whole_parts(results, _digest(results))
    return open_results(results.path)


def _slides(results: ResultsFolder) -> ds.Dataset:
    """Open slides.parquet, which is whole."""
    digest = _digest(results)
    if not results.slides.exists():
        raise ResultsError(
            f"{results.path} has no slides.parquet",
            hint="it is written when a run ends: run it again to the end",
        )
    check_table(results, results.slides, digest)
    return ds.dataset(read_table(results.slides))


def _digest(results: ResultsFolder) -> str:
    """Return what marks the tables of this run."""
    record = results.read_run()
    if record is None:
        raise ResultsError(
            f"{results.path} holds no results",
            hint="name a folder that slidescreen run has written to",
        )
    return record.fingerprint.digest

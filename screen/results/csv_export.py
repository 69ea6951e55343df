"""Results as CSV, for programs that do not read Parquet."""

from __future__ import annotations

import os
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
from screen.results.tables import read_table, reading, writing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_csv"]

HEADERS = (b'"path","slide","status","error"', b'"slide","n_cells","n_ok"')


def write_csv(results: Path, path: Path, *, slides: bool = False, force: bool = False) -> int:
    """
    Write the cells of a results folder, or its slides, as UTF-8 CSV with a header.

    Lists of names become one text with ``|`` between them; evidence maps are left out.

    Args:
        results: The results folder.
        path: Where to; a CSV file that this function wrote is replaced.
        slides: Slides instead of cells.
        force: Whether to replace any other file, too.

    Returns:
        How many rows.

    Raises:
        ResultsError: If there are no results, a table is damaged, *path* cannot be written, or is
            somebody else's.
    """
    _require_replaceable(path, force=force)
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


def _require_replaceable(path: Path, *, force: bool) -> None:
    """Refuse to replace what is no CSV file of ours; a device or a folder, whatever is asked."""
    if not os.path.lexists(path):
        return
    is_file = path.is_file() and not path.is_symlink()
    if not (is_file and _is_export(path)) and not (force and (is_file or path.is_symlink())):
        raise ResultsError(
            f"{path} was not written by slidescreen export: it is left alone",
            hint="name another file, or pass --force to replace a file",
        )


def _is_export(path: Path) -> bool:
    """Whether a file begins as an export of cells or of slides does."""
    with reading(path), path.open("rb") as file:
        return file.read(len(max(HEADERS, key=len))).startswith(HEADERS)


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

"""Results as CSV, for programs that do not read Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from engines.files import native_file
from screen.export.tables import Written, flat

if TYPE_CHECKING:
    from pathlib import Path

    from screen.export.tables import Exported

__all__ = ["is_ours", "write"]

HEADERS = (b'"path","slide","status","error"', b'"slide","n_cells","n_ok"')
FORMULA = r"^([=+\-@\t\r])"  # what a spreadsheet would compute: OWASP, "CSV injection"


def write(exported: Exported, path: Path) -> Written:
    """
    Write UTF-8 CSV with a header.

    Lists of names become one text with ``|`` between them; evidence maps and embeddings are left
    out. A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    header = _plain(exported.schema.empty_table()).schema
    rows = 0
    with native_file(path, "wb") as file, csv.CSVWriter(file, header) as writer:
        for batch in exported.batches():
            writer.write_table(_plain(pa.Table.from_batches([batch])))
            rows += len(batch)
    return Written(rows)


def is_ours(path: Path) -> bool:
    """Whether a file begins as an export of cells or of slides does."""
    with path.open("rb") as file:
        return file.read(len(max(HEADERS, key=len))).startswith(HEADERS)


def _plain(table: pa.Table) -> pa.Table:
    """Bring a table into columns that CSV can hold, and no formula in them."""
    columns = flat(table)
    for place, field in enumerate(columns.schema):
        if pa.types.is_string(field.type):
            defused = pc.replace_substring_regex(columns[field.name], FORMULA, r"'\1")
            columns = columns.set_column(place, field, defused)
    return columns

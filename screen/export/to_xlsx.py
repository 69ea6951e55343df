"""Results as an Excel workbook."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engines.errors import ResultsError
from screen.export.tables import Written, finite, flat

if TYPE_CHECKING:
    from pathlib import Path

    from xlsxwriter.worksheet import Worksheet

    from screen.export.tables import Exported

__all__ = ["MOST_ROWS", "is_ours", "write"]

MOST_ROWS = 1_048_575  # of Excel's 1,048,576, one is the header
MARK = "slidescreen export"
OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}


def write(exported: Exported, path: Path) -> Written:
    """
    Write one sheet, as ``to_csv`` flattens columns; every text stays a text, never a formula.

    Raises:
        ResultsError: If there are more rows, or a text is longer, than Excel can hold.
    """
    from xlsxwriter import Workbook

    rows = exported.count()
    if rows > MOST_ROWS:
        raise ResultsError(
            f"{rows:,} rows do not fit into an Excel sheet, which holds {MOST_ROWS:,}",
            hint="take some slides with --slide, or the format csv or parquet",
        )
    with Workbook(str(path), OPTIONS) as book:
        book.set_properties({"comments": MARK})
        sheet = book.add_worksheet("slides" if exported.slides else "cells")
        names = flat(exported.schema.empty_table()).column_names
        _write_row(sheet, 0, names)
        row = 0
        for batch in exported.batches():
            columns = flat(pa.Table.from_batches([batch])).to_pydict()
            for values in zip(*columns.values(), strict=True):
                row += 1
                _write_row(sheet, row, values)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, row, len(names) - 1)
    return Written(row)


def is_ours(path: Path) -> bool:
    """Whether a workbook says of itself that it is an export."""
    try:
        with zipfile.ZipFile(path) as parts:
            return MARK.encode() in parts.read("docProps/core.xml")
    except (zipfile.BadZipFile, KeyError):
        return False


def _write_row(sheet: Worksheet, row: int, values: Any) -> None:
    """Write one row of plain values."""
    for column, value in enumerate(map(finite, values)):
        if value is None:
            continue
        if isinstance(value, bool):
            refused = sheet.write_boolean(row, column, value)
        elif isinstance(value, int | float):
            refused = sheet.write_number(row, column, value)
        else:
            refused = sheet.write_string(row, column, str(value))
        if refused:
            raise ResultsError(
                f"a text of {len(str(value)):,} characters does not fit into a cell of Excel",
                hint="use --to csv or parquet",
            )

"""Tables of cells: CSV or Parquet with a column of paths, and in others what is known of them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.files import native_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from engines.locations import Location

__all__ = ["PATH_COLUMNS", "TABLES", "header_of", "is_parquet", "is_table_name", "read_columns"]

TABLES = (".csv", ".parquet")
PATH_COLUMNS = ("path", "file", "image")
PARQUET = b"PAR1"  # how a file begins
SHOWN_COLUMNS = 6
TABLE_HINT = "give a .csv or .parquet file with the columns path (or file) and label"


def is_table_name(name: str) -> bool:
    """Whether a file is a table, going by its name."""
    return name.lower().endswith(TABLES)


def is_parquet(path: Location) -> bool:
    """Whether a file is Parquet, going by how it begins."""
    with path.open("rb") as file:
        return file.read(len(PARQUET)) == PARQUET


def header_of(path: Path) -> list[str]:
    """
    Return the names of a table's columns.

    Raises:
        SourceError: If it is no table.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if is_parquet(path):
            with native_file(path) as file:
                return list(parquet.read_schema(file).names)
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as text:
            return next(csv.reader(text), [])
    except (OSError, csv.Error, pa.ArrowException) as error:
        raise SourceError(f"cannot read the labels {path}: {error}", hint=TABLE_HINT) from error


def read_columns(path: Path, needed: Sequence[str], known: Sequence[str] = ()) -> pa.Table:
    """
    Read some columns of a table, every value as text; null where there is none.

    Args:
        path: A CSV or Parquet file.
        needed: Columns that must be there; ``path`` may be called ``file``.
        known: Columns that may be there.

    Returns:
        The columns of both that are there, under these names.

    Raises:
        SourceError: If it cannot be read or lacks a column.
    """
    import pyarrow as pa

    header = header_of(path)
    found = {name: _called(name, header) for name in (*needed, *known)}
    if any(found[name] is None for name in needed):
        shown = ", ".join(header[:SHOWN_COLUMNS])
        wanted = " and ".join("path (or file)" if name == "path" else name for name in needed)
        raise SourceError(
            f"{path} has the columns {shown or '(none)'}: {wanted} are needed", hint=TABLE_HINT
        )
    columns = {name: called for name, called in found.items() if called is not None}
    try:
        table = _arrow_table(path, list(columns.values()))
        values = [table[called].cast(pa.string()) for called in columns.values()]
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"cannot read the labels {path}: {error}", hint=TABLE_HINT) from error
    return pa.table(values, names=list(columns))


def _called(name: str, header: Sequence[str]) -> str | None:
    """Return what a column is called in a table, if it is there."""
    names = PATH_COLUMNS if name == "path" else (name,)
    return next((each for each in names if each in header), None)


def _arrow_table(path: Path, columns: list[str]) -> pa.Table:
    """Read columns of Parquet, or of CSV: these as they are written, so that 007 stays 007."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    with native_file(path) as file:
        if is_parquet(path):
            return parquet.read_table(file, columns=columns)
        convert = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.string()),
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
        )
        return arrow_csv.read_csv(file, convert_options=convert)

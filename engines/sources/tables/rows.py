"""The rows of a manifest, CSV or Parquet, streamed, and what its columns are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from engines.errors import SourceError
from engines.files import native_file
from engines.sources.tables.columns import PATH_COLUMNS, header_of, is_parquet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from engines.locations import Location

__all__ = ["BOX", "Columns", "ManifestRows", "TableRows", "columns_of", "plain_values"]

BOX = ("x", "y", "width", "height")
SAID = ("cell_id", "label")  # columns of the results under their own names
KNOWN = ("slide", "sha256", *SAID)
BATCH_ROWS = 65_536
MANIFEST_HINT = (
    "a manifest has a column path, relative to its own folder; where it is called otherwise, "
    "pass --column path=NAME"
)


class ManifestRows(Protocol):
    """
    The rows of a manifest, whatever kind of file it is.

    Attributes:
        boxes: Whether each row is a box on an image.
    """

    boxes: bool

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """What they say of cells that goes into the results: columns by name."""
        ...

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield rows: path, slide, sha256, the four of BOX, and the names of ``carried``."""
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """
    What the columns of a table are.

    Attributes:
        roles: The name in the table of each role that there is.
        meta: Every other column, by its name in the results.
    """

    roles: Mapping[str, str]
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def boxes(self) -> bool:
        """Whether each row is a box on an image."""
        return set(BOX) <= self.roles.keys()

    @property
    def said(self) -> dict[str, str]:
        """Name the columns whose values go into the results, by their name there."""
        known = {role: name for role, name in self.roles.items() if role in SAID}
        return {**known, **self.meta}


def columns_of(
    header: Sequence[str],
    asked: Mapping[str, str],
    file: Location,
    needed: Sequence[str] = ("path",),
) -> Columns:
    """
    Tell what a table's columns are, by their names or by what was asked for.

    Args:
        header: The names of its columns.
        asked: What was asked for: a name for each role, an empty one where there is no such column.
        file: For people.
        needed: Roles that there have to be.

    Raises:
        SourceError: If one that was asked for is not there, or two could not be told apart.
    """
    roles = {name: name for name in (*KNOWN, *BOX) if name in header}
    roles["path"] = next((name for name in PATH_COLUMNS if name in header), "")
    roles |= {role: name for role, name in asked.items() if role != "image"}
    missing = [name for name in roles.values() if name and name not in header]
    roles = {role: name for role, name in roles.items() if name}
    missing += [role for role in needed if role not in roles]
    if missing:
        shown = ", ".join(header[:6]) or "(none)"
        raise SourceError(f"{file} has no column {missing[0]}; it has {shown}", hint=MANIFEST_HINT)
    if not set(BOX) <= roles.keys():
        roles = {role: name for role, name in roles.items() if role not in BOX}
    meta = {f"meta_{name}": name for name in header if name not in roles.values()}
    if len({name.lower() for name in meta}) < len(header) - len(set(roles.values())):
        raise SourceError(
            f"{file} has two columns that differ only in upper and lower case, or not at all",
            hint="rename one: databases could not tell them apart in the results",
        )
    return Columns(roles, meta)


class TableRows:
    """ManifestRows of CSV, whose values stay text as they are written, or of Parquet."""

    def __init__(self, file: Path, asked: Mapping[str, str]) -> None:
        """
        Read the header.

        Raises:
            SourceError: If it is no manifest.
        """
        import pyarrow as pa

        self._file = file
        self._columns = columns_of(header_of(file), asked, file)
        self.boxes = self._columns.boxes
        kinds = _parquet_kinds(file) if is_parquet(file) else {}
        boxes = {f"box_{name}": pa.float64() for name in BOX} if self.boxes else {}
        said = self._columns.said
        self.carried: Mapping[str, pa.DataType] = {
            name: kinds.get(own, pa.string()) for name, own in said.items()
        } | boxes

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read a batch of rows at a time."""
        import pyarrow as pa

        roles = {role: name for role, name in self._columns.roles.items() if role not in SAID}
        wanted = [*roles.items(), *self._columns.said.items()]
        try:
            for batch in self._batches([name for _, name in wanted]):
                values = [
                    plain_values(batch.column(own), self.carried.get(name, pa.string()))
                    for name, own in wanted
                ]
                names = [name for name, _ in wanted]
                yield from (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))
        except (OSError, pa.ArrowException) as error:
            raise SourceError(
                f"cannot read the manifest {self._file}: {error}", hint=MANIFEST_HINT
            ) from error

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read these columns."""
        import pyarrow as pa
        from pyarrow import csv, parquet

        unique = list(dict.fromkeys(columns))
        with native_file(self._file) as file:
            if is_parquet(self._file):
                yield from parquet.ParquetFile(file).iter_batches(BATCH_ROWS, columns=unique)
                return
            convert = csv.ConvertOptions(
                column_types=dict.fromkeys(unique, pa.string()),
                include_columns=unique,
                null_values=[""],
                strings_can_be_null=True,
            )
            parse = csv.ParseOptions(newlines_in_values=True)
            yield from csv.open_csv(file, parse_options=parse, convert_options=convert)


def plain_values(column: pa.Array, kind: pa.DataType) -> list[Any]:
    """Return a column's values as *kind*."""
    import pyarrow as pa

    if column.type == kind:
        return list(column.to_pylist())
    if pa.types.is_nested(column.type) or pa.types.is_binary(column.type):
        return [None if each is None else str(each) for each in column.to_pylist()]
    return list(column.cast(kind).to_pylist())


def _parquet_kinds(file: Path) -> dict[str, pa.DataType]:
    """Return the types of a Parquet file's plain columns; the others are carried as text."""
    import pyarrow as pa
    from pyarrow import parquet

    plain = (pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_boolean)
    with native_file(file) as opened:
        schema = parquet.read_schema(opened)
    return {each.name: each.type for each in schema if any(test(each.type) for test in plain)}

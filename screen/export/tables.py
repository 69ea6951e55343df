"""What is exported: the cells or the slides of a results folder, each table of them checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from engines.errors import ResultsError
from screen.results.folder import ResultsFolder, open_results
from screen.results.parts import whole_parts
from screen.results.table_records import check_table
from screen.results.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.locations import Location
    from screen.results.run_record import RunRecord

__all__ = ["Exported", "Written", "finite", "flat", "rows_of"]


@dataclass(frozen=True, slots=True)
class Exported:
    """
    A table that is to be exported.

    Attributes:
        record: run.json of the run.
        data: Its cells, in the order of the plan, or its slides.
        slides: Whether it is the slides.
        wanted: Names of the slides to export; none are all.
    """

    record: RunRecord
    data: ds.Dataset
    slides: bool
    wanted: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Location, *, slides: bool, wanted: Sequence[str] = ()) -> Exported:
        """
        Open a results folder.

        Raises:
            ResultsError: If there are no results, a table is damaged, or a slide that is wanted
                is not there.
        """
        results = ResultsFolder(folder)
        record = results.read_run()
        if record is None:
            raise ResultsError(
                f"{folder} holds no results",
                hint="name a folder that slidescreen run has written to",
            )
        digest = record.fingerprint.digest
        data = _slides(results, digest) if slides else _cells(results, digest)
        _require_slides(data, wanted)
        return cls(record, data, slides, tuple(wanted))

    @property
    def schema(self) -> pa.Schema:
        """The columns."""
        return self.data.schema

    def count(self) -> int:
        """Return how many rows there are."""
        return int(self.data.count_rows(filter=self._filter))

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows, in order, of all columns or of some."""
        names = list(self.schema.names if columns is None else columns)
        batches = self.data.to_batches(columns=names, filter=self._filter)
        yield from (batch for batch in batches if len(batch))

    @property
    def _filter(self) -> ds.Expression | None:
        """Which rows are wanted."""
        return ds.field("slide").isin(list(self.wanted)) if self.wanted else None


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows were written, and how many the format could not hold."""

    rows: int
    left_out: int = 0


def flat(table: pa.Table) -> pa.Table:
    """Bring a table into columns of single values: lists of names become one text, maps go."""
    columns = {}
    for field in table.schema:
        if pa.types.is_list(field.type):
            columns[field.name] = pc.binary_join(table[field.name], "|")
        elif not pa.types.is_fixed_size_list(field.type):
            columns[field.name] = table[field.name]
    return pa.table(columns)


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of some cells as dictionaries of plain values, a number that is none gone."""
    rows: list[dict[str, Any]] = batch.to_pylist()
    return [{name: finite(value) for name, value in row.items()} for row in rows]


def finite(value: Any) -> Any:
    """Return a value, None in place of a number that JSON and Excel cannot hold."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cells(results: ResultsFolder, digest: str) -> ds.Dataset:
    """Open the parts, each of them whole."""
    whole_parts(results, digest)
    return open_results(results.path)


def _slides(results: ResultsFolder, digest: str) -> ds.Dataset:
    """Open slides.parquet, which is whole."""
    if not results.slides.exists():
        raise ResultsError(
            f"{results.path} has no slides.parquet",
            hint="it is written when a run ends: run it again to the end",
        )
    check_table(results, results.slides, digest)
    return ds.dataset(read_table(results.slides))


def _require_slides(data: ds.Dataset, wanted: Sequence[str]) -> None:
    """Refuse names of slides that are not there."""
    if not wanted:
        return
    known = {
        name
        for batch in data.to_batches(columns=["slide"])
        for name in pc.unique(batch["slide"]).to_pylist()
    }
    if missing := [name for name in wanted if name not in known]:
        raise ResultsError(
            f"there is no slide {missing[0]!r} in these results",
            hint="slides are named in slides.parquet and in the report",
        )

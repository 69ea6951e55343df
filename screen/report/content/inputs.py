"""All that a report is made of, read from a results folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engines.errors import ResultsError
from engines.files import native_file
from engines.sources.labels import open_labels
from screen.report.content.cell_reader import AGAIN_HINT, CellRows
from screen.report.content.columns import Fields
from screen.report.content.galleries import choose_galleries, read_cells
from screen.report.content.review import read_review
from screen.report.content.scan import scan
from screen.report.content.slide_rows import slide_rows, usual_lead
from screen.results.table_records import check_table
from screen.results.tables import reading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engines.sources.labels import Labels
    from screen.report.content.galleries import Cell, Galleries
    from screen.report.content.review import Mark
    from screen.report.content.scan import Overview
    from screen.report.content.slide_rows import SlideRow
    from screen.results.folder import ResultsFolder
    from screen.results.run_record import RunRecord

__all__ = ["MOST_SLIDES", "CellNotes", "ReportInputs", "read_inputs"]

MOST_SLIDES = 5_000
FIRST_SLIDES = 5  # whose cells the overview shows if no slide is flagged


@dataclass(frozen=True, slots=True)
class CellNotes:
    """
    What is known of single cells beside their rows, by path.

    Attributes:
        labels: Their classes, where they are labelled.
        copies: The file that they are copies of.
        marks: What a person said of them, by row.
    """

    labels: Mapping[str, str]
    copies: Mapping[str, str]
    marks: Mapping[int, Mark]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """
    What a report is made of.

    Attributes:
        record: run.json.
        fields: What the columns mean.
        slides: slides.parquet, a dictionary per row.
        rows: The slides as shown, the most urgent first; all of them.
        overview: Of all cells.
        galleries: Which cells are shown.
        all_cells: Where the rows of all cells are.
        cells: Those that are shown, by row.
        slide_of: The index of the slide of each of those, by row.
        notes: More about those.
        labels: How the labels were named; None if there are none.
    """

    record: RunRecord
    fields: Fields
    slides: Sequence[Mapping[str, Any]]
    rows: Sequence[SlideRow]
    overview: Overview
    galleries: Galleries
    all_cells: CellRows
    cells: Mapping[int, Cell]
    slide_of: Mapping[int, int]
    notes: CellNotes
    labels: str | None

    @property
    def listed(self) -> Sequence[SlideRow]:
        """The slides that the page has room for."""
        return self.rows[:MOST_SLIDES]

    @property
    def shown(self) -> list[Cell]:
        """The scored cells that are shown, in the order in which pictures are granted."""
        return [self.cells[row] for row in self.galleries.order]


def read_inputs(
    results: ResultsFolder, labels: str | None = None, review: Path | None = None
) -> ReportInputs:
    """
    Read all that the page will say.

    Raises:
        ResultsError: If the run has not ended, its tables do not belong together, or the review
            is none.
        SourceError: If labels or review cannot be read.
    """
    record = _done_record(results)
    cells = CellRows.of(results, record)
    fields = Fields.of(record, cells.schema)
    slides = results.read_slides()
    known = None if labels is None else open_labels(labels, fields.classes)
    said = None if review is None else read_review(review, fields.classes)
    names = [slide["slide"] for slide in slides]
    overview = scan(cells, fields, names, known, said)
    rows = slide_rows(slides, fields)
    galleries = choose_galleries(
        overview.top_cells,
        [row.index for row in rows[:MOST_SLIDES]],
        _leads(rows, fields),
        {"marked": overview.review.cells if overview.review else [], "sample": overview.sampled},
    )
    chosen = read_cells(cells, galleries.all_rows, fields)
    _add_locators(results, [cell.values for cell in chosen.values()])
    number = {name: index for index, name in enumerate(names)}
    paths = [cell.values["path"] for cell in chosen.values()]
    return ReportInputs(
        record=record,
        fields=fields,
        slides=slides,
        rows=rows,
        overview=overview,
        galleries=galleries,
        all_cells=cells,
        cells=chosen,
        slide_of={row: number[cell.values["slide"]] for row, cell in chosen.items()},
        notes=CellNotes(
            _named(paths, known, fields),
            _copies(results, paths),
            overview.review.marks if overview.review else {},
        ),
        labels=labels,
    )


def _leads(rows: Sequence[SlideRow], fields: Fields) -> dict[int, str]:
    """Return which gallery the overview shows cells of: of flagged slides, else of the first."""
    flagged = {row.index: row.lead for row in rows if row.lead}
    return flagged or {row.index: usual_lead(fields) for row in rows[:FIRST_SLIDES]}


def _done_record(results: ResultsFolder) -> RunRecord:
    """Return run.json of a run that has ended, its slides being of that run."""
    record = results.read_run()
    if record is None:
        raise ResultsError(
            f"{results.path} holds no results",
            hint="name a folder that slidescreen run has written to",
        )
    if record.state != "done" or not results.slides.exists():
        raise ResultsError(f"the run in {results.path} has not ended", hint=AGAIN_HINT)
    check_table(results, results.slides, record.fingerprint.digest)
    check_table(results, results.duplicates, record.fingerprint.digest)
    return record


def _named(paths: Sequence[str], labels: Labels | None, fields: Fields) -> dict[str, str]:
    """Return the labels of some cells, where they have one of the model's classes."""
    codes = [] if labels is None else labels.codes(paths).tolist()
    pairs = zip(paths, codes, strict=labels is not None)
    return {path: fields.classes[code] for path, code in pairs if code >= 0}


def _add_locators(results: ResultsFolder, cells: Sequence[dict[str, Any]]) -> None:
    """Say of some cells where in their source their bytes are; without a plan, paths have to do."""
    if not results.plan.exists():
        return
    by_path = {cell["path"]: cell for cell in cells}
    wanted = pa.array(list(by_path), pa.string())
    with (
        reading(results.plan),
        native_file(results.plan) as file,
        pq.ParquetFile(file, page_checksum_verification=True) as table,
    ):
        for batch in table.iter_batches(columns=["path", "locator"]):
            found = batch.filter(pc.is_in(batch["path"], value_set=wanted)).to_pylist()
            for row in found:
                by_path[row["path"]]["locator"] = row["locator"]


def _copies(results: ResultsFolder, paths: Sequence[str]) -> dict[str, str]:
    """Return which of *paths* are copies, and of what."""
    wanted = pa.array(paths, pa.string())
    found: dict[str, str] = {}
    with (
        reading(results.duplicates),
        native_file(results.duplicates) as file,
        pq.ParquetFile(file, page_checksum_verification=True) as table,
    ):
        for batch in table.iter_batches(columns=["path", "duplicate_of"]):
            rows = batch.filter(pc.is_in(batch["path"], value_set=wanted))
            found.update(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    return found

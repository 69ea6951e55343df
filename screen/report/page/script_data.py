"""What the page's script draws: slides, cells and charts as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.pictures import evidence_scale, packed_evidence
from screen.report.content.scan import BINS
from screen.report.formatting import shown
from screen.report.page.wording import cell_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from screen.report.content.accuracy import LabelledAccuracy
    from screen.report.content.columns import Fields
    from screen.report.content.galleries import Cell
    from screen.report.content.inputs import CellNotes, ReportInputs
    from screen.report.content.scan import Overview
    from screen.report.content.slide_rows import SlideRow

__all__ = ["cell_values", "chart_values", "slide_values"]

DIGITS = 4


def slide_values(inputs: ReportInputs, place: Mapping[int, int]) -> list[dict[str, Any]]:
    """
    Return the slides as the page's script knows them.

    Args:
        inputs: Of the report.
        place: Where in the list of cells each scored row stands.
    """
    return [_slide(row, inputs, place) for row in inputs.listed]


def _slide(row: SlideRow, inputs: ReportInputs, place: Mapping[int, int]) -> dict[str, Any]:
    """Return one slide."""
    shown_rows = {
        name: gallery.get(row.index, ()) for name, gallery in inputs.galleries.rows.items()
    }
    unscored = shown_rows.pop("unscored")
    return {
        "name": row.name,
        "flags": list(row.flags),
        "limits": list(row.limits),
        "facts": row.facts(inputs.fields),
        "scored": row.scored,
        "unscored": row.unscored,
        "share": None if row.share is None else _rounded(asdict(row.share)),
        "histogram": inputs.overview.histogram[row.index].tolist(),
        "galleries": {name: [place[each] for each in rows] for name, rows in shown_rows.items()},
        "faults": [_fault(inputs.cells[each]) for each in unscored],
    }


def _fault(cell: Cell) -> list[str]:
    """Return path, status and reason of a cell that was not scored."""
    values = cell.values
    return [shown(values["path"]), values["status"], shown(values["error"] or "")]


def cell_values(
    cells: Sequence[Cell], fields: Fields, notes: CellNotes
) -> tuple[list[dict[str, Any]], float | None]:
    """Return the scored cells that are shown, without pictures, and the scale of their evidence."""
    scale = evidence_scale(cell.evidence for cell in cells)
    return [_cell(cell, fields, notes, scale) for cell in cells], scale


def _cell(cell: Cell, fields: Fields, notes: CellNotes, scale: float | None) -> dict[str, Any]:
    """Return one cell."""
    path = cell.values["path"]
    chances = cell.chances or ()
    predicted = cell.values["predicted"]
    name = predicted if fields.positive is None else fields.positive
    value = {
        "path": shown(path),
        "p": round(chances[fields.classes.index(name)], DIGITS) if chances else None,
        "of": fields.words(name),
        "called": bool(cell.values["positive"]),
        "lines": cell_lines(cell.values, fields, notes.labels.get(path), notes.copies.get(path)),
    }
    if cell.evidence is not None and scale is not None:
        value["map"] = packed_evidence(cell.evidence, scale)
    return value


def chart_values(overview: Overview) -> dict[str, Any]:
    """Return what the charts of the whole run draw."""
    sample = {name: np.concatenate(parts) for name, parts in overview.sample.items()}
    known = {name: values for name, values in sample.items() if np.isfinite(values).any()}
    accuracy = overview.accuracy
    return {
        "bins": BINS,
        "histogram": overview.histogram.sum(axis=0).tolist(),
        "sample": {name: [_number(each) for each in values] for name, values in known.items()},
        "reliability": None if accuracy is None else [_rounded(asdict(b)) for b in _bins(accuracy)],
    }


def _bins(accuracy: LabelledAccuracy) -> list[Any]:
    """Return the bins of the reliability diagram."""
    return list(accuracy.reliability())


def _number(value: float) -> float | None:
    """Return four significant digits, or None for what is no number."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Round the floats."""
    return {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in values.items()
    }

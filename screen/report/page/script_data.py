"""What the page's script draws: slides, cells and charts as JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.scan import BINS
from screen.report.formatting import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from screen.report.content.accuracy import LabelledAccuracy
    from screen.report.content.galleries import Cell
    from screen.report.content.inputs import ReportInputs
    from screen.report.content.scan import Overview
    from screen.report.content.slide_rows import SlideRow

__all__ = ["chart_values", "slide_values"]

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
        "lead": [place[each] for each in inputs.galleries.lead.get(row.index, ())],
        "galleries": {
            name: [place[each] for each in rows] for name, rows in shown_rows.items() if rows
        },
        "faults": [_fault(inputs.cells[each]) for each in unscored],
    }


def _fault(cell: Cell) -> list[str]:
    """Return path, status and reason of a cell that was not scored."""
    values = cell.values
    return [shown(values["path"]), values["status"], shown(values["error"] or "")]


def chart_values(overview: Overview, place: Mapping[int, int]) -> dict[str, Any]:
    """Return what the charts of the whole run draw; *place* is as for ``slide_values``."""
    sample = {name: np.concatenate(parts) for name, parts in overview.sample.items()}
    known = {name: values for name, values in sample.items() if np.isfinite(values).any()}
    accuracy = overview.accuracy
    return {
        "bins": BINS,
        "histogram": overview.histogram.sum(axis=0).tolist(),
        "sample": {name: [_number(each) for each in values] for name, values in known.items()},
        "sampled": [place[row] for _, row in overview.sampled],
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

"""The cells that the page shows, as JSON values: numbers, evidence, what was said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from screen.report.content.evidence_maps import evidence_scale, packed_evidence
from screen.report.content.galleries import CARRIED
from screen.report.formatting import p_value, probability, shown
from screen.report.page.wording import QUALITY_WORDS, cell_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from screen.report.content.columns import Fields
    from screen.report.content.galleries import Cell
    from screen.report.content.inputs import ReportInputs

__all__ = ["cell_values", "number_terms"]

DIGITS = 4


def number_terms(fields: Fields) -> list[str]:
    """Return what each of a cell's numbers is called."""
    return [
        *(f"Probability of {fields.words(name)}" for name in fields.classes),
        *_known_terms(fields).values(),
        *(shown(name.removeprefix(CARRIED)) for name in _carried(fields)),
    ]


def _known_terms(fields: Fields) -> dict[str, str]:
    """Return the columns that a cell's page shows, and what they are called."""
    terms = {
        "prediction_set": "Plausible classes",
        "ood_score": "Distance from the training cells",
        "ood_p": "Held-out cells that are as far out",
        **QUALITY_WORDS,
    }
    return {name: terms[name] for name in fields.those_present(terms)}


def _carried(fields: Fields) -> list[str]:
    """Return the columns that a manifest carried along."""
    return sorted(name for name in fields.present if name.startswith(CARRIED))


def cell_values(inputs: ReportInputs) -> tuple[list[dict[str, Any]], float | None]:
    """Return the scored cells that are shown, without pictures, and the scale of their evidence."""
    scale = evidence_scale(cell.evidence for cell in inputs.shown)
    place = {row.index: place for place, row in enumerate(inputs.listed)}
    cells = []
    for row in inputs.galleries.order:
        value = _cell(inputs.cells[row], inputs, scale)
        value["slide"] = place.get(inputs.slide_of[row])
        value |= _said(row, inputs)
        cells.append(value)
    return cells, scale


def _cell(cell: Cell, inputs: ReportInputs, scale: float | None) -> dict[str, Any]:
    """Return one cell."""
    path, fields, notes = cell.values["path"], inputs.fields, inputs.notes
    chances, predicted = cell.chances or (), cell.values["predicted"]
    name = predicted if fields.positive is None else fields.positive
    value = {
        "path": shown(path),
        "p": round(chances[fields.classes.index(name)], DIGITS) if chances else None,
        "class": fields.classes.index(predicted),
        "called": bool(cell.values["positive"]),
        "lines": cell_lines(cell.values, fields, notes.labels.get(path), notes.copies.get(path)),
        "numbers": _numbers(cell, fields),
    }
    if value["path"] != path:
        value["raw"] = path
    if cell.evidence is not None and scale is not None:
        value["map"] = packed_evidence(cell.evidence, scale)
    return value


def _numbers(cell: Cell, fields: Fields) -> list[str]:
    """Return a cell's numbers as text, in the order of ``number_terms``; empty where null."""
    chances = [""] * len(fields.classes)
    if cell.chances is not None:
        chances = list(map(probability, cell.chances))
    known = [_text(name, cell.values[name], fields) for name in _known_terms(fields)]
    carried = [_text(name, cell.values[name], fields) for name in _carried(fields)]
    return [*chances, *known, *carried]


def _text(name: str, value: Any, fields: Fields) -> str:
    """Write one value."""
    if value is None:
        return ""
    if name == "prediction_set":
        return " or ".join(map(fields.words, value)) or "none"
    if name == "ood_p":
        return p_value(value)
    return f"{value:.3g}" if isinstance(value, float) else shown(str(value))


def _said(row: int, inputs: ReportInputs) -> dict[str, Any]:
    """Return the other galleries that a cell would be in, and what a person said of it."""
    said: dict[str, Any] = {}
    if row in inputs.galleries.also:
        said["also"] = list(inputs.galleries.also[row])
    mark = inputs.notes.marks.get(row)
    if mark is not None:
        said["mark"] = _mark(mark.verdict, mark.label, mark.note)
    return said


def _mark(verdict: str, label: str, note: str) -> Mapping[str, str]:
    """Return what a person said of a cell."""
    return {"verdict": verdict, "label": label, "note": note}

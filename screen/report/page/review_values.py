"""What a person's review says of the model, put in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from screen.report.content.review import VERDICTS
from screen.report.formatting import count, percent, plural, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screen.report.content.inputs import ReportInputs
    from screen.report.content.review import Agreement, ReviewedCells

__all__ = ["agreement_text", "review_line", "review_values"]


def review_values(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return what the template writes of a review; None if there is none."""
    reviewed = inputs.overview.review
    if reviewed is None:
        return None
    fields = inputs.fields
    rows = [("All cells reviewed", agreement_text(reviewed.agreement()))]
    for index, name in enumerate(fields.classes):
        called = f"Taken to be {fields.words(name)}"
        rows.append((called, agreement_text(reviewed.agreement(index))))
    return {
        "source": shown(reviewed.review.name),
        "cells": len(reviewed.marks),
        "slides": len({slide for slide, _ in reviewed.cells}),
        "verdicts": [(name, count(reviewed.verdicts[name])) for name in VERDICTS],
        "agreement": rows,
        "lost": " ".join(_lost(reviewed)),
    }


def _lost(reviewed: ReviewedCells) -> Iterator[str]:
    """Say which rows of the review are not about cells that this page can show."""
    if reviewed.missing:
        cells = plural(reviewed.missing, "cell of the review is", "cells of the review are")
        yield (
            f"{cells} not in these results: keep the file, since a review saved from this page "
            "does not hold them."
        )
    if reviewed.unscored:
        yield f"{plural(reviewed.unscored, 'cell')} of the review could not be scored."


def agreement_text(agreement: Agreement | None) -> str:
    """Write an agreement with its interval and where that comes from."""
    if agreement is None:
        return "none (no such cell was judged)"
    how = "slides resampled" if agreement.by_slide else "Wilson, cells taken as independent"
    return (
        f"{count(agreement.agreed)} of {count(agreement.judged)}, "
        f"{percent(agreement.agreed / agreement.judged)} "
        f"({percent(agreement.low)} to {percent(agreement.high)}; {how})"
    )


def review_line(reviewed: ReviewedCells) -> str:
    """Say in a line how far the person agrees with the model."""
    lost = "".join(f" {each}" for each in _lost(reviewed))
    return (
        f"{plural(len(reviewed.marks), 'cell')} reviewed; agreement with the predicted class "
        f"{agreement_text(reviewed.agreement())}{'.' if lost else ''}{lost}"
    )

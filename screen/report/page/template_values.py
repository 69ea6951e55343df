"""What the template writes, put in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.columns import QUALITY
from screen.report.content.pictures import LARGEST, MOST_BYTES
from screen.report.content.slide_rows import METHODS, interval_method
from screen.report.formatting import count, moment, plural, shown
from screen.report.page.accuracy_values import accuracy_values
from screen.report.page.review_values import review_values
from screen.report.page.run_facts import run_facts, run_line
from screen.report.page.wording import (
    QUALITY_WORDS,
    classes_sentence,
    shown_sentence,
    tiles,
    warnings,
)
from screen.summary.flags import flag_meanings

if TYPE_CHECKING:
    from screen.report.content.inputs import ReportInputs
    from screen.report.content.pictures import PictureCounts
    from screen.results.run_record import RunRecord

__all__ = ["page_values"]


def page_values(inputs: ReportInputs, pictures: PictureCounts) -> dict[str, Any]:
    """Return every value of the template."""
    record, fields, rows = inputs.record, inputs.fields, inputs.rows
    return {
        "source": shown(record.source.location.rstrip("/").rpartition("/")[2] or "/"),
        "digest": record.fingerprint.digest,
        "finished": moment(record.finished or ""),
        "version": record.versions["slidescreen"],
        "positive": fields.positive_words or None,
        "threshold": fields.threshold,
        "tiles": tiles(record, rows, fields),
        "drift": _drift(record),
        "warnings": warnings(record, rows, fields, pictures),
        "ran": run_line(record, fields),
        "facts": run_facts(record, fields, inputs.slides),
        "rows": inputs.listed,
        "fields": fields,
        "slides": len(rows),
        "flagged": sum(bool(row.flags) for row in rows),
        "has_trust": any(row.abstained is not None for row in rows),
        "has_copies": any(row.duplicates for row in rows),
        "classes": classes_sentence(fields),
        "flag_meanings": flag_meanings(fields.positive_words or None, record.flags),
        "method": METHODS[interval_method(inputs.slides)],
        "flag_fraction": record.flags.fraction,
        "shown_cells": _shown_cells(inputs, pictures),
        "picture_rule": _picture_rule(pictures),
        "qualities": _qualities(inputs),
        "sampled": _sampled(inputs),
        "accuracy": accuracy_values(inputs),
        "review": review_values(inputs),
    }


def _drift(record: RunRecord) -> dict[str, str] | None:
    """Return the verdict on the run as a whole, and the sentence that explains it."""
    drift = record.drift
    if drift is None or (not drift.measured and record.warnings):
        return None
    return {
        "verdict": shown_sentence(drift.verdict),
        "sentence": shown_sentence(drift.sentence),
        "level": {"like training": "good", "not measured": "none"}.get(drift.verdict, "bad"),
    }


def _shown_cells(inputs: ReportInputs, pictures: PictureCounts) -> str:
    """Say how many cells the page shows, of how many."""
    scored = sum(row.scored for row in inputs.rows)
    return (
        f"{count(len(inputs.shown))} of {plural(scored, 'scored cell')} are shown in the slides' "
        f"galleries, {count(pictures.drawn)} of them with a picture; every cell is in the tables "
        "in cells/"
    )


def _picture_rule(pictures: PictureCounts) -> str:
    """Say which pictures are whole, and why not all are."""
    return (
        "Pictures are made from the files of cells, where their bytes are still those that were "
        f"screened. {count(pictures.whole)} of {count(pictures.drawn)} show the crop at its own "
        f"resolution (at most {count(LARGEST)} pixels a side, compressed as WebP), the others a "
        "smaller copy of the whole crop. Places beside flags come first, then galleries, the most "
        "urgent slides before the others; a picture is whole while every cell after it still gets "
        f"a small one in a page of {MOST_BYTES / 1e6:.1f} MB, and a quarter of the room goes to "
        "whole ones in any case."
    )


def _qualities(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Return the measures of quality that the sample holds, and their names."""
    sample = inputs.overview.sample
    return [
        (name, QUALITY_WORDS[name])
        for name in QUALITY
        if any(np.isfinite(values).any() for values in sample.get(name, ()))
    ]


def _sampled(inputs: ReportInputs) -> int | None:
    """Return how many cells the sample holds; None if it holds no distance from training."""
    parts = inputs.overview.sample.get("ood_p", ())
    return sum(map(len, parts)) if any(np.isfinite(part).any() for part in parts) else None

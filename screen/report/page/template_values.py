"""What the template writes, put in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.columns import QUALITY
from screen.report.content.slide_rows import METHODS, Share, interval_method
from screen.report.formatting import count, moment, plural, shown
from screen.report.page.run_facts import run_facts, run_line
from screen.report.page.wording import classes_sentence, shown_sentence, tiles, warnings
from screen.summary.flags import flag_meanings
from screen.summary.trained_on import trained_on_warning

if TYPE_CHECKING:
    from screen.report.content.accuracy import LabelledAccuracy
    from screen.report.content.inputs import ReportInputs
    from screen.report.content.pictures import PictureCounts
    from screen.results.run_record import RunRecord

__all__ = ["page_values"]

QUALITY_WORDS = {
    "focus": "Focus (sharpness of the foreground)",
    "exposure": "Exposure (brightness of the foreground)",
    "clipped": "Clipped (share of saturated pixels)",
    "foreground": "Foreground (share of the picture)",
    "stain_shift": "Stain shift (distance from training)",
}


@dataclass(frozen=True, slots=True)
class Rate:
    """
    A figure against labels.

    Attributes:
        name: What it is called.
        text: Its value with an interval.
        others: The same without slides named like people whom the model was trained on.
    """

    name: str
    text: str
    others: str


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
        "has_trust": any(row.abstained is not None for row in rows),
        "has_copies": any(row.duplicates for row in rows),
        "classes": classes_sentence(fields),
        "flag_meanings": flag_meanings(fields.positive_words or None, record.flags),
        "method": METHODS[interval_method(inputs.slides)],
        "flag_fraction": record.flags.fraction,
        "shown_cells": _shown_cells(inputs, pictures),
        "qualities": _qualities(inputs),
        "sampled": _sampled(inputs),
        "accuracy": _accuracy(inputs),
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


def _accuracy(inputs: ReportInputs) -> dict[str, Any] | None:
    """Return how right the model is, in words."""
    accuracy = inputs.overview.accuracy
    if accuracy is None:
        return None
    return {
        "source": shown(inputs.labels or ""),
        "cells": accuracy.cells,
        "unlabelled": accuracy.unlabelled,
        "foreign": accuracy.foreign,
        "unscored": accuracy.unscored,
        "rates": _rates(accuracy, inputs),
        "trained_on": _trained_on(accuracy, inputs),
        "classes": list(map(inputs.fields.words, inputs.fields.classes)),
        "confusion": accuracy.confusion.tolist(),
        "slides": _labelled_slides(accuracy, inputs),
    }


def _rates(accuracy: LabelledAccuracy, inputs: ReportInputs) -> list[Rate]:
    """Return accuracy, and sensitivity and specificity at the threshold."""
    found = [("Accuracy of the predicted class", accuracy.right, accuracy.scored)]
    if inputs.fields.positive is not None:
        calls_S22 = accuracy.calls
        found += [
            ("Sensitivity at the threshold", calls_S22[:, 1, 1], calls_S22[:, 1].sum(axis=1)),
            ("Specificity at the threshold", calls_S22[:, 0, 0], calls_S22[:, 0].sum(axis=1)),
        ]
    new_S = np.array([not slide.get("trained_on") for slide in inputs.slides], bool)
    rates = [
        Rate(
            name, _rate_text(accuracy.rate(right, of)), _rate_text(accuracy.rate(right, of * new_S))
        )
        for name, right, of in found
    ]
    error = accuracy.calibration_error()
    text = "none" if error is None else f"{error:.3f}"
    return [*rates, Rate("Expected calibration error", text, "not computed")]


def _trained_on(accuracy: LabelledAccuracy, inputs: ReportInputs) -> str:
    """Say how many of the labelled slides the model may know from training; empty for none."""
    labelled = [row for row in inputs.rows if accuracy.scored[row.index]]
    known = [row.name for row in labelled if row.trained_on]
    return trained_on_warning(known)


def _rate_text(rate: tuple[float, float, float] | None) -> str:
    """Write a rate with its interval, if it has one."""
    if rate is None:
        return "none (no such cell)"
    value, low, high = rate
    if np.isnan(low):
        return f"{value:.1%} (too few slides for an interval)"
    return Share(value, low, high).text


def _labelled_slides(accuracy: LabelledAccuracy, inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return each labelled slide: cells, share positive as labelled and as estimated, accuracy."""
    found = []
    for row in inputs.listed:
        cells = int(accuracy.scored[row.index])
        if not cells:
            continue
        positive = int(accuracy.calls[row.index, 1].sum())
        found.append(
            {
                "name": row.name,
                "cells": cells,
                "true": positive / cells,
                "share": row.share,
                "right": int(accuracy.right[row.index]) / cells,
            }
        )
    return found

"""What the template writes, put in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.columns import QUALITY
from screen.report.content.slide_rows import METHODS, Share, interval_method
from screen.report.formatting import count, moment, plural, shown
from screen.report.page.run_facts import run_facts, run_line
from screen.report.page.wording import Pictures, shown_sentence, tiles, warnings
from screen.summary.trained_on import trained_on_warning

if TYPE_CHECKING:
    from screen.report.content.accuracy import Judged
    from screen.report.content.inputs import Material
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


def page_values(material: Material, pictures: Pictures) -> dict[str, Any]:
    """Return every value of the template."""
    record, fields, rows = material.record, material.fields, material.rows
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
        "facts": run_facts(record, fields, material.slides),
        "rows": material.listed,
        "fields": fields,
        "slides": len(rows),
        "has_trust": any(row.abstained is not None for row in rows),
        "has_copies": any(row.duplicates for row in rows),
        "method": METHODS[interval_method(material.slides)],
        "flag_fraction": record.flags.fraction,
        "shown_cells": _shown_cells(material, pictures),
        "qualities": _qualities(material),
        "sampled": _sampled(material),
        "judged": _judged(material),
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


def _shown_cells(material: Material, pictures: Pictures) -> str:
    """Say how many cells the page shows, of how many."""
    scored = sum(row.scored for row in material.rows)
    return (
        f"{count(len(material.shown))} of {plural(scored, 'scored cell')} are shown in the slides' "
        f"galleries, {count(pictures.drawn)} of them with a picture; every cell is in the tables "
        "in cells/"
    )


def _qualities(material: Material) -> list[tuple[str, str]]:
    """Return the measures of quality that the sample holds, and their names."""
    sample = material.overview.sample
    return [
        (name, QUALITY_WORDS[name])
        for name in QUALITY
        if any(np.isfinite(values).any() for values in sample.get(name, ()))
    ]


def _sampled(material: Material) -> int | None:
    """Return how many cells the sample holds; None if it holds no distance from training."""
    parts = material.overview.sample.get("ood_p", ())
    return sum(map(len, parts)) if any(np.isfinite(part).any() for part in parts) else None


def _judged(material: Material) -> dict[str, Any] | None:
    """Return how right the model is, in words."""
    judged = material.overview.judged
    if judged is None:
        return None
    return {
        "source": shown(material.labels or ""),
        "cells": judged.cells,
        "unlabelled": judged.unlabelled,
        "foreign": judged.foreign,
        "unscored": judged.unscored,
        "rates": _rates(judged, material),
        "trained_on": _trained_on(judged, material),
        "classes": list(map(material.fields.words, material.fields.classes)),
        "confusion": judged.confusion.tolist(),
        "slides": _judged_slides(judged, material),
    }


def _rates(judged: Judged, material: Material) -> list[Rate]:
    """Return accuracy, and sensitivity and specificity at the threshold."""
    found = [("Accuracy of the predicted class", judged.right, judged.scored)]
    if material.fields.positive is not None:
        calls_S22 = judged.calls
        found += [
            ("Sensitivity at the threshold", calls_S22[:, 1, 1], calls_S22[:, 1].sum(axis=1)),
            ("Specificity at the threshold", calls_S22[:, 0, 0], calls_S22[:, 0].sum(axis=1)),
        ]
    new_S = np.array([not slide.get("trained_on") for slide in material.slides], bool)
    rates = [
        Rate(name, _rate_text(judged.rate(right, of)), _rate_text(judged.rate(right, of * new_S)))
        for name, right, of in found
    ]
    error = judged.calibration_error()
    text = "none" if error is None else f"{error:.3f}"
    return [*rates, Rate("Expected calibration error", text, "not computed")]


def _trained_on(judged: Judged, material: Material) -> str:
    """Say how many of the labelled slides the model may know from training; empty for none."""
    labelled = [row for row in material.rows if judged.scored[row.index]]
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


def _judged_slides(judged: Judged, material: Material) -> list[dict[str, Any]]:
    """Return each labelled slide: cells, share positive as labelled and as estimated, accuracy."""
    found = []
    for row in material.listed:
        cells = int(judged.scored[row.index])
        if not cells:
            continue
        positive = int(judged.calls[row.index, 1].sum())
        found.append(
            {
                "name": row.name,
                "cells": cells,
                "true": positive / cells,
                "share": row.share,
                "right": int(judged.right[row.index]) / cells,
            }
        )
    return found

"""How right the model is on labelled cells, put in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.accuracy import slide_rate
from screen.report.content.slide_rows import Share
from screen.report.formatting import shown
from screen.summary.trained_on import trained_on_warning

if TYPE_CHECKING:
    from screen.report.content.accuracy import LabelledAccuracy
    from screen.report.content.inputs import ReportInputs

__all__ = ["accuracy_values"]


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


def accuracy_values(inputs: ReportInputs) -> dict[str, Any] | None:
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
        Rate(name, _rate_text(slide_rate(right, of)), _rate_text(slide_rate(right, of * new_S)))
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

"""What a run comes to, told when its last part is there: duplicates, slides, drift, warnings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engines.cells import STATUSES
from engines.uncertainty import probabilities
from engines.uncertainty.conformal import guaranteed, measured_coverage
from screen.results.folder import open_results, write_table
from screen.summary.duplicates import duplicate_table
from screen.summary.slides import repeats_by_slide, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa

    from engines.models.bundle import ModelBundle
    from engines.uncertainty.drift import Drift
    from screen.results.cell_rows import Judge
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Fingerprint, Plan
    from screen.summary.flags import Thresholds

__all__ = ["tell", "trust_record"]

NO_TRUST = (
    "the model's bundle says nothing of its own limits, so sets, strangeness and corrected shares "
    "are empty: fit them with slidescreen-train calibrate"
)
OPENINGS = {
    "like training": "These cells look like the training cells",
    "differs from training": "These cells differ from the training cells",
    "out of its depth": "The model is out of its depth with these cells",
}
ADVICE = {
    "like training": "",
    "differs from training": "; look at some cells by eye before you rely on the scores",
    "out of its depth": "; do not rely on the scores before slidescreen-train evaluate has judged "
    "the model on labelled cells of this source",
}


def tell(
    results: ResultsFolder,
    plan: Plan,
    fingerprint: Fingerprint,
    judge: Judge,
    thresholds: Thresholds,
) -> dict[str, Any]:
    """Write duplicates.parquet and slides.parquet; return what run.json says of them."""
    cells = open_results(results.path)
    duplicates = duplicate_table(cells, plan.table)
    write_table(duplicates, results.duplicates, fingerprint.metadata)
    told = summary(cells, judge, thresholds, repeats_by_slide(duplicates))
    write_table(told.slides, results.slides, fingerprint.metadata)
    counts = _counts(told.slides, plan) | {"duplicates": len(duplicates)}
    drift = _drift_record(told.drift, judge.bundle)
    return {
        "counts": counts,
        "flags": asdict(thresholds),
        "drift": drift,
        "warnings": _warnings(counts, drift, judge.bundle),
    }


def trust_record(judge: Judge) -> dict[str, Any]:
    """Say what sets and p-values rest on."""
    bundle, trust = judge.bundle, judge.bundle.trust
    if trust is None:
        return {"available": False, "why": NO_TRUST}
    held = trust.held_out
    chances = probabilities(held.logits, bundle.temperature)
    measured = measured_coverage(chances, held.truth, held.subjects, judge.coverage)
    return {
        "available": True,
        "why": f"{len(held.truth)} held-out cells of {len(set(held.subjects.tolist()))} subjects",
        "coverage": judge.coverage,
        "classes": {
            name: _class_record(held.subjects[held.truth == number], rate, judge.coverage)
            for number, (name, rate) in enumerate(zip(bundle.classes, measured, strict=True))
        },
        "ood": "Mahalanobis distance of pooled features from the nearest class of training cells",
    }


def _class_record(
    subjects: np.ndarray[Any, Any], measured: float | None, coverage: float
) -> dict[str, Any]:
    """Say on how much the sets of one class rest."""
    people = len(set(subjects.tolist()))
    return {
        "cells": len(subjects),
        "subjects": people,
        "measured": measured,
        "guaranteed": guaranteed(coverage, people),
    }


def _counts(slides: pa.Table, plan: Plan) -> dict[str, int | None]:
    """Add up the slides."""
    total = {name: slides[name].to_pylist() for name in slides.column_names}
    counts: dict[str, int | None] = {"cells": len(plan), "slides": len(slides)}
    counts |= {status: sum(total[f"n_{status}"]) for status in STATUSES}
    counts |= {"unmatched": plan.unmatched, "other_files": plan.ignored}
    for name in ("abstained", "out_of_distribution"):
        values = total[f"n_{name}"]
        counts[name] = None if None in values else sum(values)
    return counts | {"flagged": sum(total["flagged"])}


def _drift_record(drift: Drift | None, bundle: ModelBundle) -> dict[str, Any]:
    """Say it in numbers and in a sentence."""
    if drift is None:
        why = NO_TRUST if bundle.trust is None else "no cell was scored"
        nothing = dict.fromkeys(("value", "features", "colour", "p"))
        sentence = f"Drift was not measured: {why}."
        return {
            "measured": False,
            **nothing,
            "slides": 0,
            "verdict": "not measured",
            "sentence": sentence,
        }
    numbers = {"value": drift.value, **asdict(drift), "verdict": drift.verdict}
    return {"measured": True, **numbers, "sentence": _sentence(drift)}


def _sentence(drift: Drift) -> str:
    """Say in plain words whether the model knows such cells."""
    by_colour = drift.colour is not None and drift.colour >= drift.features
    where = "in colour" if by_colour else "in what the network sees and in colour"
    return (
        f"{OPENINGS[drift.verdict]}: {where}, a cell of this run lies farther out than a held-out "
        f"one in {drift.value:.1%} of comparisons (50% is no drift){ADVICE[drift.verdict]}."
    )


def _warnings(
    counts: Mapping[str, int | None], drift: Mapping[str, Any], bundle: ModelBundle
) -> list[str]:
    """Say what a reader must know before reading any score."""
    warnings = []
    if drift["verdict"] in ("differs from training", "out of its depth"):
        warnings.append(drift["sentence"])
    if bundle.trust is None:
        warnings.append(f"{NO_TRUST[0].upper()}{NO_TRUST[1:]}.")
    scored = counts["ok"] or 0
    for name, text in (
        ("abstained", "the model abstains: more than one class, or none, is plausible"),
        ("out_of_distribution", "nothing like it was among the training cells"),
    ):
        if (counts[name] or 0) > scored / 2:
            warnings.append(f"For {counts[name]:,} of {scored:,} scored cells {text}.")
    return warnings

"""What is known once the last part is on disk: duplicates, slides, drift, warnings."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, TypedDict

from engines.cells import STATUSES
from engines.errors import ResultsError
from engines.uncertainty import probabilities
from engines.uncertainty.conformal import guaranteed, measured_coverage
from screen.results.folder import open_results
from screen.results.parts import whole_parts
from screen.results.run_record import ClassCoverage, Counts, DriftRecord, TrustRecord
from screen.results.schema import EVIDENCE_KEY
from screen.results.table_records import AGAIN_HINT, write_recorded
from screen.summary.slides import summary
from screen.summary.trained_on import trained_on_warning

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    import pyarrow as pa

    from engines.models.bundle import ModelBundle
    from engines.uncertainty.drift import Drift
    from screen.results.cell_uncertainty import Uncertainty
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Plan
    from screen.summary.flags import Thresholds

__all__ = ["trust_record", "write_summary"]

NO_TRUST = (
    "the model's bundle says nothing of its own limits, so sets, strangeness and corrected shares "
    "are empty: fit them with slidescreen-train calibrate"
)
NO_EVIDENCE = (
    "The model's head has no class evidence map (it is no average and one linear layer), so the "
    "evidence column is empty."
)
OPENINGS = {
    "like training": "These cells look like {known}",
    "differs from training": "These cells differ from {known}",
    "out of its depth": "The model is out of its depth with these cells",
}
ADVICE = {
    "like training": "",
    "differs from training": "; look at some cells by eye before you rely on the scores; some "
    "labelled ones let slidescreen-train adapt fit the model to such cells",
    "out of its depth": "; do not rely on the scores before slidescreen-train evaluate has judged "
    "the model on labelled cells of this source, and slidescreen-train adapt has fitted it to them",
}


class Summary(TypedDict):
    """What the tables come to: the fields of ``RunRecord`` of the same names."""

    counts: Counts
    decoded_by: dict[str, int]
    flags: Thresholds
    drift: DriftRecord
    warnings: tuple[str, ...]


def write_summary(
    results: ResultsFolder,
    plan: Plan,
    fingerprint: Fingerprint,
    uncertainty: Uncertainty,
    thresholds: Thresholds,
) -> Summary:
    """
    Write duplicates.parquet and slides.parquet; return what run.json says of them.

    Raises:
        ResultsError: If a part is missing, or is not what it was when it was written.
    """
    parts = whole_parts(results, fingerprint.digest).values()
    rows = sum(part.rows for part in parts)
    if rows != len(plan):
        raise ResultsError(
            f"{results.path} holds {rows:,} cells of the {len(plan):,} of its plan", hint=AGAIN_HINT
        )
    cells = open_results(results.path)
    found = summary(cells, plan, uncertainty, thresholds)
    write_recorded(results, results.duplicates, found.duplicates, fingerprint)
    write_recorded(results, results.slides, found.slides, fingerprint)
    counts = _counts(found.slides, plan, len(found.duplicates))
    drift = _drift_record(found.drift, uncertainty.bundle)
    return {
        "counts": counts,
        "decoded_by": dict(sum((Counter(part.codecs) for part in parts), Counter())),
        "flags": thresholds,
        "drift": drift,
        "warnings": (
            *(f"Not all of the source was there: {each}." for each in plan.facts.problems),
            *_warnings(counts, drift, uncertainty.bundle),
            *_trained_on(found.slides),
            *(() if EVIDENCE_KEY in (cells.schema.metadata or {}) else (NO_EVIDENCE,)),
        ),
    }


def trust_record(uncertainty: Uncertainty) -> TrustRecord:
    """Say what sets and p-values rest on."""
    bundle, trust = uncertainty.bundle, uncertainty.bundle.trust
    if trust is None:
        return TrustRecord(available=False, why=NO_TRUST)
    held = trust.held_out
    chances = probabilities(held.logits, bundle.temperature)
    measured = measured_coverage(chances, held.truth, held.subjects, uncertainty.coverage)
    return TrustRecord(
        available=True,
        why=f"{len(held.truth)} held-out cells of {len(set(held.subjects.tolist()))} subjects",
        coverage=uncertainty.coverage,
        classes={
            name: _class_coverage(held.subjects[held.truth == number], rate, uncertainty.coverage)
            for number, (name, rate) in enumerate(zip(bundle.classes, measured, strict=True))
        },
        ood="Mahalanobis distance of pooled features from the nearest class of training cells",
    )


def _class_coverage(
    subjects: np.ndarray[Any, Any], measured: float | None, coverage: float
) -> ClassCoverage:
    """Count the held-out cells of one class, given whose each of them is."""
    people = len(set(subjects.tolist()))
    return ClassCoverage(
        cells=len(subjects),
        subjects=people,
        measured=measured,
        guaranteed=guaranteed(coverage, people),
    )


def _counts(slides: pa.Table, plan: Plan, duplicates: int) -> Counts:
    """Add up the slides."""
    statuses = {status: _total(slides, f"n_{status}") or 0 for status in STATUSES}
    return Counts(
        cells=len(plan),
        slides=len(slides),
        **statuses,
        unmatched=plan.facts.unmatched,
        other_files=plan.facts.ignored,
        abstained=_total(slides, "n_abstained"),
        out_of_distribution=_total(slides, "n_out_of_distribution"),
        flagged=sum(slides["flagged"].to_pylist()),
        duplicates=duplicates,
    )


def _total(slides: pa.Table, name: str) -> int | None:
    """Sum a column of slides; None where one of them has no value."""
    values = slides[name].to_pylist()
    return None if None in values else sum(values)


def _drift_record(drift: Drift | None, bundle: ModelBundle) -> DriftRecord:
    """Say it in numbers and in a sentence."""
    if drift is None:
        why = NO_TRUST if bundle.trust is None else "no cell was scored"
        return DriftRecord(measured=False, sentence=f"Drift was not measured: {why}.")
    return DriftRecord(
        measured=True,
        value=drift.value,
        **asdict(drift),
        verdict=drift.verdict,
        sentence=_sentence(drift, bundle),
    )


def _sentence(drift: Drift, bundle: ModelBundle) -> str:
    """Say in plain words whether the model knows such cells."""
    known = (
        "those that the model was adapted to" if "adapted" in bundle.data else "the training cells"
    )
    opening = OPENINGS[drift.verdict].format(known=known)
    by_colour = drift.colour is not None and drift.colour >= drift.features
    where = "in colour" if by_colour else "in what the network sees and in colour"
    return (
        f"{opening}: {where}, a cell of this run lies farther out than a held-out "
        f"one in {drift.value:.1%} of comparisons (50% is no drift){ADVICE[drift.verdict]}."
    )


def _trained_on(slides: pa.Table) -> tuple[str, ...]:
    """Say which slides the model may know from training, if there are any."""
    known = slides.filter(slides["trained_on"])["slide"].to_pylist()
    return tuple(filter(None, [trained_on_warning(known)]))


def _warnings(counts: Counts, drift: DriftRecord, bundle: ModelBundle) -> tuple[str, ...]:
    """Say what a reader must know before reading any score."""
    warnings = []
    if drift.verdict in ("differs from training", "out of its depth"):
        warnings.append(drift.sentence)
    if bundle.trust is None:
        warnings.append(f"{NO_TRUST[0].upper()}{NO_TRUST[1:]}.")
    for number, text in (
        (counts.abstained, "the model abstains: more than one class, or none, is plausible"),
        (counts.out_of_distribution, "nothing like it was among the training cells"),
    ):
        if number is not None and number > counts.ok / 2:
            warnings.append(f"For {number:,} of {counts.ok:,} scored cells {text}.")
    return tuple(warnings)

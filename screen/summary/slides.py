"""Part files become one row per slide, with intervals, and a word on the run as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.uncertainty import positives, probabilities
from engines.uncertainty.conformal import abstentions
from engines.uncertainty.drift import Drift, usual_means
from engines.uncertainty.prevalence import ErrorRates
from screen.results.schema import class_columns, slide_schema
from screen.summary.duplicates import ContentHashes
from screen.summary.flags import flags, needs_a_look
from screen.summary.intervals import wilson
from screen.summary.top_cells import TopCells
from screen.summary.totals import needed, summed, sums
from screen.summary.trained_on import is_trained_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow.dataset as ds

    from engines.models.bundle import ModelBundle
    from screen.results.cell_uncertainty import Uncertainty
    from screen.summary.duplicates import Rows
    from screen.summary.flags import Thresholds

__all__ = ["Summary", "summary"]

TOP = 10  # cells named for each slide
FEW = 10  # held-out cells of a subject: too few to say how often the model abstains


@dataclass(frozen=True, slots=True)
class Summary:
    """
    What the cells of a run come to.

    Attributes:
        slides: One row per slide, sorted.
        duplicates: Cells whose file is the same as an earlier cell's.
        drift: How far the run is from training; None where that cannot be told.
    """

    slides: pa.Table
    duplicates: pa.Table
    drift: Drift | None


def summary(
    cells: ds.Dataset, plan: Rows, uncertainty: Uncertainty, thresholds: Thresholds
) -> Summary:
    """
    Summarise cells by slide, in one pass over them.

    ``fraction_positive`` has Wilson's score interval (Wilson, JASA 1927) at 95%, over the cells
    scored, taken as independent and rightly called; ``fraction_positive_rogan_gladen`` corrects for
    how often the model is wrong in other people, see ``engines.uncertainty.prevalence``. Null
    where the bundle names no positive class, or no cell of the slide was scored.

    Args:
        cells: All rows, in the order of the plan.
        plan: Gives single cells' ``path`` and ``slide``.
        uncertainty: Of these cells.
        thresholds: From where slides are flagged.
    """
    totals, top, hashes = _totals(cells, uncertainty.bundle, thresholds)
    duplicates = hashes.duplicates(plan)
    repeats, first = _repeats_by_slide(duplicates), _top_paths(top, plan)
    rates, usual = _rates(uncertainty)
    subjects = uncertainty.bundle.training_subjects
    rows = []
    for total in totals.to_pylist():
        row = _row(total, uncertainty.bundle, repeats.get(total["slide"], 0))
        row |= _corrected(total, rates, usual)
        row["flags"] = flags(row, thresholds)
        row["flagged"] = needs_a_look(row["flags"])
        row["trained_on"] = is_trained_on(row["slide"], subjects)
        if uncertainty.bundle.positive is not None:
            row["top_cells"] = first.get(total["slide"], [])
        rows.append(row)
    slides = pa.Table.from_pylist(rows, schema=slide_schema(uncertainty.bundle.classes))
    return Summary(slides, duplicates, _drift(totals, uncertainty.bundle))


def _totals(
    cells: ds.Dataset, bundle: ModelBundle, thresholds: Thresholds
) -> tuple[pa.Table, TopCells, ContentHashes]:
    """Pass once over the cells: sums by slide, each slide's most suspicious, and hashes."""
    partial, top, hashes = [], TopCells(TOP), ContentHashes()
    numbers: dict[str, int] = {}
    row = 0
    for batch in cells.to_batches(columns=needed(bundle)):
        partial.append(sums(batch, bundle, thresholds))
        hashes.add(batch["content_hash"])
        if bundle.positive is not None:
            (column,) = class_columns([bundle.positive])
            slides = [numbers.setdefault(name, len(numbers)) for name in batch["slide"].to_pylist()]
            chances = batch[f"prob_{column}"].to_numpy(zero_copy_only=False)
            top.add(np.array(slides, np.int64), chances, np.arange(row, row + len(batch)))
        row += len(batch)
    return summed(pa.concat_tables(partial)).sort_by("slide"), top, hashes


def _top_paths(top: TopCells, plan: Rows) -> dict[str, list[str]]:
    """Return the paths of each slide's most suspicious cells, highest first."""
    rows = [row for group in top.ranked().values() for row in group]
    cells = plan.take(np.array(rows, np.int64))
    found: dict[str, list[str]] = {}
    for slide, path in zip(cells["slide"].to_pylist(), cells["path"].to_pylist(), strict=True):
        found.setdefault(slide, []).append(path)
    return found


def _row(total: Mapping[str, Any], bundle: ModelBundle, repeats: int) -> dict[str, Any]:
    """Return counts, means and the plain share."""
    row = {name: value for name, value in total.items() if not name.startswith(("sum_", "known_"))}
    scored = total["n_ok"]
    for name in class_columns(bundle.classes):
        row[f"mean_prob_{name}"] = total[f"sum_prob_{name}"] / scored if scored else None
    if bundle.trust is None:
        row |= {"n_abstained": None, "n_out_of_distribution": None}
    if bundle.positive is None:
        row["n_positive"] = None
    row["n_duplicates"] = repeats
    return row | _share(row["n_positive"], scored)


def _share(count: int | None, scored: int) -> dict[str, float | None]:
    """Return the share of positives with Wilson's interval."""
    if count is None or not scored:
        return {"fraction_positive": None}
    low, high = wilson(count, scored)
    return {
        "fraction_positive": count / scored,
        "fraction_positive_wilson95_low": low,
        "fraction_positive_wilson95_high": high,
    }


def _rates(uncertainty: Uncertainty) -> tuple[ErrorRates | None, float]:
    """Return how often calls are wrong, and the most that a held-out subject is abstained from."""
    bundle, conformal = uncertainty.bundle, uncertainty.conformal
    if bundle.trust is None or bundle.positive is None or conformal is None:
        return None, 1.0
    held = bundle.trust.held_out
    chances = probabilities(held.logits, bundle.temperature)
    called = positives(chances, bundle)
    assert called is not None
    truth = held.truth == bundle.classes.index(bundle.positive)
    _, number, count = np.unique(held.subjects, return_inverse=True, return_counts=True)
    abstained = np.bincount(number, abstentions(conformal.sets(chances))) / count
    usual = abstained[count >= FEW].max() if (count >= FEW).any() else 1.0
    return ErrorRates.fitted(called, truth, held.subjects), float(usual)


def _corrected(
    total: Mapping[str, Any], rates: ErrorRates | None, usual: float
) -> dict[str, float | None]:
    """
    Correct the share for the model's errors; what nothing is known about widens the interval.

    Unknown are cells out of distribution, and abstentions beyond the share of them that the
    worst held-out subject had: the model's error rates are measured with the usual ones in.
    """
    scored = total["n_ok"]
    if rates is None or not scored:
        return {"fraction_positive_rogan_gladen": None}
    known = scored - total["n_out_of_distribution"]
    low, high = rates.interval(total["known_positive"], known)
    trusted = known - max(0.0, total["known_abstained"] - usual * known)
    return {
        "fraction_positive_rogan_gladen": rates.share(total["known_positive"], known),
        "fraction_positive_rogan_gladen95_low": low * trusted / scored,
        "fraction_positive_rogan_gladen95_high": 1 - (1 - high) * trusted / scored,
    }


def _drift(totals: pa.Table, bundle: ModelBundle) -> Drift | None:
    """Compare the slides with the held-out subjects."""
    if bundle.trust is None:
        return None
    held = bundle.trust.held_out
    column = {name: np.array(totals[name].to_numpy(), float) for name in totals.column_names[1:]}
    with np.errstate(invalid="ignore", divide="ignore"):
        features = column["sum_ood_p"] / column["n_ok"]
        colours = column["sum_stain_p"] / column["n_stain_p"]
    return Drift.measured(
        (features, usual_means(held.distances, held.subjects)),
        (colours, usual_means(held.stain_shift, held.subjects)),
    )


def _repeats_by_slide(duplicates: pa.Table) -> dict[str, int]:
    """Count the repeats of each slide."""
    counted = pc.value_counts(duplicates["slide"]).to_pylist()
    return {item["values"]: item["counts"] for item in counted}

"""Part files become one row per slide, with an interval; memory grows with slides, not cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from engines.cells import STATUSES
from screen.parts import class_columns
from screen.results import open_results, write_table

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from engines.bundle import ModelBundle
    from screen.plan import Fingerprint
    from screen.results import ResultsFolder

__all__ = ["slide_table", "write_slides"]

CONFIDENCE = 0.95


def write_slides(results: ResultsFolder, fingerprint: Fingerprint, bundle: ModelBundle) -> pa.Table:
    """Write slides.parquet from the parts and return it."""
    table = slide_table(open_results(results.path), bundle)
    write_table(table, results.slides, fingerprint.metadata)
    return table


def slide_table(cells: ds.Dataset, bundle: ModelBundle) -> pa.Table:
    """
    Summarise cells by slide, sorted by slide.

    The interval of ``fraction_positive`` is Wilson's score interval (Wilson, JASA 1927) at 95%,
    over the cells scored, taken as independent. Null where the bundle names no positive class
    or no cell of the slide was scored.
    """
    partial = [_sums(batch, bundle) for batch in cells.to_batches(columns=_needed(bundle))]
    sums = _summed(pa.concat_tables(partial)).sort_by("slide")
    columns = {"slide": sums["slide"], "n_cells": sums["n_cells"]}
    for status in STATUSES:
        columns[f"n_{status}"] = sums[f"n_{status}"]
    names = class_columns(bundle.classes)
    for name in names:
        columns[f"count_{name}"] = sums[f"count_{name}"]
    columns |= _positive_columns(sums, bundle)
    scored = pc.if_else(pc.equal(sums["n_ok"], 0), None, sums["n_ok"])
    for name in names:
        columns[f"mean_prob_{name}"] = pc.divide(sums[f"sum_prob_{name}"], scored)
    return pa.table(columns)


def _needed(bundle: ModelBundle) -> list[str]:
    """Which columns the summary reads."""
    return ["slide", "status", "predicted", "positive"] + [
        f"prob_{name}" for name in class_columns(bundle.classes)
    ]


def _sums(batch: pa.RecordBatch, bundle: ModelBundle) -> pa.Table:
    """Sum what can be summed of some cells, by slide."""
    columns = {"slide": batch["slide"], "n_cells": pa.repeat(1, len(batch)).cast("int64")}
    for status in STATUSES:
        columns[f"n_{status}"] = _ones(pc.equal(batch["status"], status))
    for name, column in zip(bundle.classes, class_columns(bundle.classes), strict=True):
        columns[f"count_{column}"] = _ones(pc.equal(batch["predicted"], name))
        columns[f"sum_prob_{column}"] = batch[f"prob_{column}"].cast("float64")
    columns["n_positive"] = _ones(batch["positive"])
    return _summed(pa.table(columns))


def _ones(flags: pa.Array) -> pa.Array:
    """Return 1 where true, 0 where false or null."""
    return pc.fill_null(flags.cast("int64"), 0)


def _summed(table: pa.Table) -> pa.Table:
    """Add rows of the same slide; a sum of nothing but nulls is null."""
    names = [name for name in table.column_names if name != "slide"]
    summed = table.group_by("slide").aggregate([(name, "sum") for name in names])
    return summed.select(["slide", *(f"{name}_sum" for name in names)]).rename_columns(
        ["slide", *names]
    )


def _positive_columns(sums: pa.Table, bundle: ModelBundle) -> dict[str, pa.Array]:
    """Count positives and give their share an interval."""
    from scipy.stats import binomtest  # slow to import, and a resumed run may not need it

    rows: list[tuple[int | None, float | None, float | None, float | None]] = []
    for scored, count in zip(sums["n_ok"].to_pylist(), sums["n_positive"].to_pylist(), strict=True):
        if bundle.positive is None or not scored:
            rows.append((None if bundle.positive is None else 0, None, None, None))
            continue
        interval = binomtest(count, scored).proportion_ci(CONFIDENCE, method="wilson")
        rows.append((count, count / scored, float(interval.low), float(interval.high)))
    kinds = {
        "n_positive": pa.int64(),
        "fraction_positive": pa.float64(),
        "fraction_positive_wilson95_low": pa.float64(),
        "fraction_positive_wilson95_high": pa.float64(),
    }
    values = list(zip(*rows, strict=True))
    return {
        name: pa.array(column, kind)
        for (name, kind), column in zip(kinds.items(), values, strict=True)
    }

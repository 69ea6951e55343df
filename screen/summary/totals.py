"""What can be summed of cells, slide by slide; memory grows with slides, not cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.cells import STATUSES
from screen.results.schema import class_columns, columns_of_cells

if TYPE_CHECKING:
    from engines.models.bundle import ModelBundle
    from screen.summary.flags import Thresholds

__all__ = ["needed", "summed", "sums"]


def needed(bundle: ModelBundle) -> list[str]:
    """Name the columns of cells that the summary reads: those of slides, and colour for drift."""
    return [*columns_of_cells(bundle.classes), "stain_shift"]


def sums(batch: pa.RecordBatch, bundle: ModelBundle, thresholds: Thresholds) -> pa.Table:
    """
    Sum some cells by slide.

    ``known`` are the cells not out of distribution; ``sum_stain_p`` is of how rare colours are.
    """
    columns = {"slide": batch["slide"], "n_cells": pa.repeat(1, len(batch)).cast("int64")}
    for status in STATUSES:
        columns[f"n_{status}"] = _ones(pc.equal(batch["status"], status))
    for name, column in zip(bundle.classes, class_columns(bundle.classes), strict=True):
        columns[f"count_{column}"] = _ones(pc.equal(batch["predicted"], name))
        columns[f"sum_prob_{column}"] = batch[f"prob_{column}"].cast("float64")
    strange = pc.fill_null(pc.less_equal(batch["ood_p"], thresholds.ood_level), False)
    columns["n_out_of_distribution"] = _ones(strange)
    for name, flags in (("positive", batch["positive"]), ("abstained", batch["abstained"])):
        columns[f"n_{name}"] = _ones(flags)
        columns[f"known_{name}"] = _ones(pc.and_not(flags, strange))
    columns["sum_ood_p"] = batch["ood_p"].cast("float64")
    columns["sum_stain_p"] = _stain_p(batch["stain_shift"], bundle)
    columns["n_stain_p"] = _ones(columns["sum_stain_p"].is_valid())
    return summed(pa.table(columns))


def summed(table: pa.Table) -> pa.Table:
    """Add rows of the same slide; a sum of nothing but nulls is null."""
    names = [name for name in table.column_names if name != "slide"]
    grouped = table.group_by("slide").aggregate([(name, "sum") for name in names])
    return grouped.select(["slide", *(f"{name}_sum" for name in names)]).rename_columns(
        ["slide", *names]
    )


def _ones(flags: pa.Array) -> pa.Array:
    """Return 1 where true, 0 where false or null."""
    return pc.fill_null(flags.cast("int64"), 0)


def _stain_p(shift: pa.Array, bundle: ModelBundle) -> pa.Array:
    """Return how rare each cell's colour is among held-out cells."""
    if bundle.trust is None:
        return pa.nulls(len(shift), pa.float64())
    distances = shift.to_numpy(zero_copy_only=False).astype(np.float64)
    rarity = bundle.trust.usual_stain_shift.p_values(distances)
    return pa.array(np.where(np.isnan(distances), np.nan, rarity), from_pandas=True)

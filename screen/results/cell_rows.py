"""The rows of a shard: one per cell in the order of the plan, scored or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engines.cells import OK
from engines.errors import ParityError
from engines.uncertainty import positives, predictions, probabilities
from screen.results.schema import EVIDENCE_KEY, NO_PLACES, cell_schema, class_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from engines.cells import CellFacts, CellRef, Shard
    from screen.results.cell_uncertainty import ScoredCells, Uncertainty

__all__ = ["shard_table"]


def shard_table(
    shard: Shard, gathered: Sequence[ScoredCells], uncertainty: Uncertainty
) -> pa.Table:
    """Lay out a shard's rows in the order of its refs."""
    faults = [fault for item in gathered for fault in item.faults]
    scored = [ref for item in gathered for ref in item.refs]
    facts = [fact for item in gathered for fact in item.facts]
    facts += [fault.facts for fault in faults]
    refs = scored + [fault.ref for fault in faults]
    order = _order(shard, refs)
    status = [OK] * len(scored) + [fault.status for fault in faults]
    columns: dict[str, Any] = {
        "path": [ref.path for ref in refs],
        "slide": [ref.slide for ref in refs],
        "status": status,
        "error": pa.array([None] * len(scored) + [fault.reason for fault in faults], pa.string()),
        **_fact_columns(facts),
        "codec": [fact.codec or "" for fact in facts[: len(scored)]] + [None] * len(faults),
        **_score_columns(scored, gathered, uncertainty, len(faults)),
    }
    schema = _schema_of(gathered[0].evidence, uncertainty.bundle.classes)
    table = pa.table(columns, schema=schema).take(order)
    if gathered[0].features is not None:
        table = table.append_column("embedding", _embeddings(gathered, len(faults)).take(order))
    for name, values in _carried_columns(shard, facts, order):
        table = table.append_column(name, values)
    return table


def _carried_columns(
    shard: Shard, facts: Sequence[CellFacts], order: pa.Array
) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Yield what the source says of the cells of a shard; of boxes, how much of each is padding."""
    if shard.carried is None:
        return
    yield from zip(shard.carried.column_names, shard.carried.columns, strict=True)
    if "box_x" in shard.carried.column_names:
        padded = pa.chunked_array([pa.array([fact.padded for fact in facts], pa.float64())])
        yield "box_padded", padded.take(order)


def _embeddings(gathered: Sequence[ScoredCells], fault_count: int) -> pa.Array:
    """Lay features out as lists of one fixed size; null for the *fault_count* cells at the end."""
    features_NF = np.concatenate([item.features for item in gathered if item.features is not None])
    values = pa.array(features_NF.astype(np.float16).ravel())
    return _with_nulls(pa.FixedSizeListArray.from_arrays(values, features_NF.shape[1]), fault_count)


def _schema_of(evidence_Nhw: NDArray[np.float32] | None, classes: Sequence[str]) -> pa.Schema:
    """Return the schema of cells with the shape of their evidence maps, if there are any."""
    if evidence_Nhw is None:
        return cell_schema(classes, NO_PLACES)
    height, width = evidence_Nhw.shape[1:]
    shape = {EVIDENCE_KEY: json.dumps({"height": height, "width": width}).encode()}
    return cell_schema(classes, height * width).with_metadata(shape)


def _order(shard: Shard, refs: Sequence[CellRef]) -> pa.Array:
    """Return where in *refs* each cell of the shard stands, refusing a lost or doubled one."""
    position = {ref.path: index for index, ref in enumerate(refs)}
    due = {ref.path for ref in shard.refs}
    if len(refs) != len(shard.refs) or position.keys() != due:
        raise RuntimeError(f"shard {shard.index} did not return each of its cells exactly once")
    return pa.array([position[ref.path] for ref in shard.refs])


def _fact_columns(facts: Sequence[CellFacts]) -> dict[str, pa.Array]:
    """What is known of every file."""
    return {
        "width": pa.array([fact.width for fact in facts], pa.int64()),
        "height": pa.array([fact.height for fact in facts], pa.int64()),
        "content_hash": pa.array([fact.content_hash for fact in facts], pa.string()),
    }


def _score_columns(
    scored: Sequence[CellRef],
    gathered: Sequence[ScoredCells],
    uncertainty: Uncertainty,
    fault_count: int,
) -> dict[str, pa.Array]:
    """What the model says; null for the *fault_count* cells at the end."""
    bundle = uncertainty.bundle
    logits_NC = np.concatenate([item.logits for item in gathered])
    _require_finite(scored, logits_NC)
    chances_NC = probabilities(logits_NC, bundle.temperature)
    called = positives(chances_NC, bundle)
    predicted = [bundle.classes[index] for index in predictions(chances_NC, bundle)]
    columns: dict[str, pa.Array] = {
        "predicted": pa.array(predicted, pa.string()),
        "positive": pa.nulls(len(scored), pa.bool_()) if called is None else pa.array(called),
        **_class_values("logit", logits_NC, bundle.classes),
        **_class_values("prob", chances_NC, bundle.classes),
        **uncertainty.columns(gathered, chances_NC),
    }
    return {name: _with_nulls(values, fault_count) for name, values in columns.items()}


def _class_values(
    prefix: str, values_NC: NDArray[np.float32], classes: Sequence[str]
) -> dict[str, pa.Array]:
    """Return a column for each class."""
    columns = zip(class_columns(classes), values_NC.T, strict=True)
    return {f"{prefix}_{name}": pa.array(values, pa.float32()) for name, values in columns}


def _with_nulls(values: pa.Array, count: int) -> pa.Array:
    """Append *count* nulls."""
    return pa.concat_arrays([values, pa.nulls(count, values.type)])


def _require_finite(scored: Sequence[CellRef], logits_NC: NDArray[np.float32]) -> None:
    """Refuse to write a score that is no number."""
    bad = ~np.isfinite(logits_NC).all(axis=1)
    if bad.any():
        raise ParityError(
            f"the model's score of {scored[int(bad.argmax())].path} is not a finite number",
            hint="pass --precision fp32; if it persists, the weights are damaged",
        )

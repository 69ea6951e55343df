"""Scores and faults become rows, and rows become part files: the rename is the commit."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engines.cells import OK
from engines.errors import ParityError
from engines.uncertainty import positives, predictions, probabilities
from screen.results.folder import write_table
from screen.results.schema import CODECS_KEY, EVIDENCE_KEY, class_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engines.cells import CellRef, Scores, Shard
    from screen.results.cell_rows import Judge, Judged
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder

__all__ = ["Commit", "ShardDone"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard whose part is on disk: how many of its cells were scored, how many are at fault."""

    index: int
    scored: int
    faults: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Writes each shard of a run once all of its cells have come in."""

    results: ResultsFolder
    fingerprint: Fingerprint
    judge: Judge

    def stream(self, scores: Iterable[Scores]) -> Iterator[ShardDone]:
        """
        Gather scores shard by shard and write a part for each.

        Raises:
            RuntimeError: If a shard's cells did not each come in exactly once: a bug of ours.
            ParityError: If a score is not a finite number.
        """
        gathered: list[Judged] = []
        index = due = 0
        for item in scores:
            if not gathered:
                index, due = item.shard.index, len(item.shard.refs)
            gathered.append(self.judge.judged(item))
            due -= len(item.refs) + len(item.faults)
            if due <= 0:
                yield self._written(item.shard, gathered)
                gathered = []
        if gathered:
            raise RuntimeError(f"shard {index} lacks {due} cells")

    def _written(self, shard: Shard, gathered: Sequence[Judged]) -> ShardDone:
        """Write one part."""
        table = shard_table(shard, gathered, self.judge)
        codecs = Counter(facts.codec for item in gathered for facts in item.facts)
        extra = {CODECS_KEY: json.dumps(codecs).encode()}
        write_table(table, self.results.part(shard.index), {**self.fingerprint.metadata, **extra})
        scored = sum(codecs.values())
        log.info("shard %05d: %d scored, %d at fault", shard.index, scored, len(table) - scored)
        return ShardDone(shard.index, scored, len(table) - scored)


def shard_table(shard: Shard, gathered: Sequence[Judged], judge: Judge) -> pa.Table:
    """Lay out a shard's rows in the order of its refs."""
    faults = [fault for item in gathered for fault in item.faults]
    scored = [ref for item in gathered for ref in item.refs]
    facts = [fact for item in gathered for fact in item.facts]
    refs = scored + [fault.ref for fault in faults]
    order = _order(shard, refs)
    status = [OK] * len(scored) + [fault.status for fault in faults]
    columns: dict[str, Any] = {
        "path": [ref.path for ref in refs],
        "slide": [ref.slide for ref in refs],
        "status": status,
        "error": pa.array([None] * len(scored) + [fault.reason for fault in faults], pa.string()),
        **_fact_columns(facts + [fault.facts for fault in faults]),
        **_score_columns(scored, gathered, judge, len(faults)),
    }
    height, width = gathered[0].evidence.shape[1:]
    shape = {EVIDENCE_KEY: json.dumps({"height": height, "width": width}).encode()}
    return pa.table(columns, metadata=shape).take(order)


def _order(shard: Shard, refs: Sequence[CellRef]) -> pa.Array:
    """Return where in *refs* each cell of the shard stands, refusing a lost or doubled one."""
    position = {ref.path: index for index, ref in enumerate(refs)}
    due = {ref.path for ref in shard.refs}
    if len(refs) != len(shard.refs) or position.keys() != due:
        raise RuntimeError(f"shard {shard.index} did not return each of its cells exactly once")
    return pa.array([position[ref.path] for ref in shard.refs])


def _fact_columns(facts: Sequence[Any]) -> dict[str, pa.Array]:
    """What is known of every file."""
    return {
        "width": pa.array([fact.width for fact in facts], pa.int64()),
        "height": pa.array([fact.height for fact in facts], pa.int64()),
        "content_hash": pa.array([fact.content_hash for fact in facts], pa.string()),
    }


def _score_columns(
    scored: Sequence[CellRef], gathered: Sequence[Judged], judge: Judge, fault_count: int
) -> dict[str, pa.Array]:
    """What the model says; null for the *fault_count* cells at the end."""
    bundle = judge.bundle
    logits_NC = np.concatenate([item.logits for item in gathered])
    _require_finite(scored, logits_NC)
    chances_NC = probabilities(logits_NC, bundle.temperature)
    called = positives(chances_NC, bundle)
    predicted = [bundle.classes[index] for index in predictions(chances_NC, bundle)]
    names = class_columns(bundle.classes)
    columns = {
        "predicted": _with_nulls(predicted, fault_count, pa.string()),
        "positive": _with_nulls(
            [None] * len(scored) if called is None else called.tolist(),
            fault_count,
            pa.bool_(),
        ),
    }
    for prefix, values_NC in (("logit", logits_NC), ("prob", chances_NC)):
        for name, values in zip(names, values_NC.T, strict=True):
            columns[f"{prefix}_{name}"] = _with_nulls(values, fault_count, pa.float32())
    for name, values in judge.columns(gathered, chances_NC).items():
        columns[name] = _with_nulls(values, fault_count, values.type)
    return columns


def _with_nulls(values: Any, count: int, kind: pa.DataType) -> pa.Array:
    """Append *count* nulls."""
    return pa.concat_arrays([pa.array(values, kind), pa.nulls(count, kind)])


def _require_finite(scored: Sequence[CellRef], logits_NC: np.ndarray[Any, Any]) -> None:
    """Refuse to write a score that is no number."""
    bad = ~np.isfinite(logits_NC).all(axis=1)
    if bad.any():
        raise ParityError(
            f"the model's score of {scored[int(bad.argmax())].path} is not a finite number",
            hint="pass --precision fp32; if it persists, the weights are damaged",
        )

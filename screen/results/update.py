"""
Parts brought up to date with a later revision of their plan.

A part is outdated once its plan has changed or gone cells of it. What is gone is copied to
``gone.parquet`` first; then each such part is replaced by one that keeps all other rows as they
are. Every step follows from the plan and the parts that are there, so any of them may be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from engines.errors import ResultsError
from screen.results.table_records import TableRecord, check_table, write_recorded
from screen.results.tables import read_table, writing

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from engines.cells import Shard
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Plan

__all__ = ["REVISION", "Outdated", "outdated_parts"]

REVISION = "revision"


@dataclass(frozen=True, slots=True)
class Outdated:
    """
    The parts of a run that an earlier revision of its plan wrote, and that have to change.

    Attributes:
        results: Where they are.
        plan: As it is now.
        records: Of these parts, by shard.
    """

    results: ResultsFolder
    plan: Plan
    records: Mapping[int, TableRecord]

    @property
    def revisions(self) -> dict[int, int]:
        """As of which revision each of them is."""
        return {index: record.revision for index, record in self.records.items()}

    def kept_count(self, current: Container[int]) -> int:
        """Count the rows that stay in the parts that are not *current* yet."""
        waiting = [index for index in self.records if index not in current]
        return sum(len(self.plan.paths(index, self.records[index].revision)) for index in waiting)

    def keep_gone(self, fingerprint: Fingerprint) -> None:
        """
        Add to gone.parquet the rows of cells that the plan does not have any more.

        Raises:
            ResultsError: If gone.parquet is damaged, or cannot be written.
        """
        found = [self._gone_rows(index) for index in self.records]
        found = [rows for rows in found if len(rows)]
        if not found:
            return
        if self.results.gone.exists():
            check_table(self.results, self.results.gone, fingerprint.digest)
            before = read_table(self.results.gone)
            this = pc.equal(before[REVISION], self.plan.facts.revision)
            seen = before.filter(this)["path"]
            found = [rows.filter(pc.invert(pc.is_in(rows["path"], seen))) for rows in found]
            found.insert(0, before)
        table = pa.concat_tables([rows.replace_schema_metadata(None) for rows in found])
        write_recorded(self.results, self.results.gone, table, fingerprint)

    def trimmed(self, fingerprint: Fingerprint) -> dict[int, TableRecord]:
        """
        Rewrite the parts that only lose cells; one that loses all is removed.

        Returns:
            The records of those that were rewritten, by shard.
        """
        states = self.plan.states()
        for index in range(self.plan.shard_count):
            if index not in states:
                self._remove(index)
        return {
            index: self._rewritten(index, fingerprint)
            for index, record in self.records.items()
            if index in states and states[index].revision <= record.revision
        }

    def merged(self, shard: Shard, scored: pa.Table) -> pa.Table:
        """Put the new rows of some cells of a part among those that stay, in the plan's order."""
        if shard.index not in self.records:
            return scored
        kept = self._kept(shard.index, scored["path"].to_pylist())
        rows = pa.concat_tables([kept, scored.replace_schema_metadata(None)])
        ordered = _in_order(rows, self.plan.paths(shard.index))
        return ordered.replace_schema_metadata(scored.schema.metadata)

    def _rewritten(self, index: int, fingerprint: Fingerprint) -> TableRecord:
        """Write a part without the cells that are gone."""
        path = self.results.part(index)
        metadata = read_table(path).schema.metadata
        rows = _in_order(self._kept(index, []), self.plan.paths(index))
        table = rows.replace_schema_metadata(metadata)
        return write_recorded(self.results, path, table, fingerprint, self.plan.facts.revision)

    def _kept(self, index: int, renewed: Sequence[str]) -> pa.Table:
        """Return the rows of a part that stay as they are."""
        rows = read_table(self.results.part(index)).replace_schema_metadata(None)
        stay = set(self.plan.paths(index)) - set(renewed)
        return rows.filter(pc.is_in(rows["path"], pa.array(sorted(stay), pa.string())))

    def _gone_rows(self, index: int) -> pa.Table:
        """Return the rows of a part that the plan does not have any more, and since when."""
        rows = read_table(self.results.part(index))
        here = pa.array(self.plan.paths(index), pa.string())
        gone = rows.filter(pc.invert(pc.is_in(rows["path"], here)))
        since = pa.array([self.plan.facts.revision] * len(gone), pa.int32())
        return gone.append_column(REVISION, since)

    def _remove(self, index: int) -> None:
        """Remove a part without cells, and then its record, if they are there."""
        part = self.results.part(index)
        for path in (part, self.results.record_of(part)):
            with writing(path):
                if path.exists():
                    path.unlink()


def outdated_parts(plan: Plan, parts: Mapping[int, TableRecord]) -> dict[int, TableRecord]:
    """Return the parts, of those that are whole, that are not as the plan has it now."""
    states = plan.states()
    return {
        index: record
        for index, record in parts.items()
        if index not in states
        or states[index].revision > record.revision
        or states[index].cells != record.rows
    }


def _in_order(rows: pa.Table, paths: Iterable[str]) -> pa.Table:
    """
    Return rows in the order of their paths.

    Raises:
        ResultsError: If one is missing, or there are more.
    """
    place = {path: number for number, path in enumerate(rows["path"].to_pylist())}
    order = [place.get(path) for path in paths]
    if None in order or len(order) != len(rows):
        raise ResultsError(
            "a part does not hold the cells that its plan says",
            hint="run the same command with --restart to begin anew",
        )
    return rows.take(pa.array(order, pa.int64())).combine_chunks()

"""Scores become part files, one a shard: the rename is the commit."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from engines.errors import ResultsError
from engines.files import files_in, native_file
from screen.results.cell_rows import shard_table
from screen.results.folder import part_files
from screen.results.table_records import TableRecord, check_table, write_recorded
from screen.results.tables import AWAY_HINT, carries_fingerprint, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from engines.cells import Scores, Shard
    from engines.locations import Location
    from screen.results.cell_uncertainty import ScoredCells, Uncertainty
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder

__all__ = [
    "BatchScored",
    "Commit",
    "ShardDone",
    "committed_parts",
    "whole_parts",
    "without_unreadable",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchScored:
    """
    A batch that is scored and not yet on disk; or what a worker of several has scored since.

    Attributes:
        scored: How many cells were scored.
        faults: How many are at fault.
        worker: Which worker's; empty where there is one. What a worker loses, it counts back.
    """

    scored: int
    faults: int
    worker: str = ""


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard whose part is on disk: how many of its cells were scored, how many are at fault."""

    index: int
    scored: int
    faults: int


@dataclass(frozen=True, slots=True)
class Commit:
    """
    Writes each shard of a run once all of its cells have come in.

    Attributes:
        results: Where to.
        fingerprint: What marks the parts.
        uncertainty: Turns scores into rows.
        revision: Of the plan.
        merge: Puts the rows of a shard among others that its part has already.
    """

    results: ResultsFolder
    fingerprint: Fingerprint
    uncertainty: Uncertainty
    revision: int = 1
    merge: Callable[[Shard, pa.Table], pa.Table] | None = None

    def stream(self, scores: Iterable[Scores]) -> Iterator[BatchScored | ShardDone]:
        """
        Gather scores shard by shard and write a part for each.

        Yields:
            What happened, in order: every batch, and after the last of a shard the shard.

        Raises:
            RuntimeError: If a shard's cells did not each come in exactly once: a bug of ours.
            ParityError: If a score is not a finite number.
        """
        gathered: list[ScoredCells] = []
        index = due = 0
        for item in scores:
            if not gathered:
                index, due = item.shard.index, len(item.shard.refs)
            gathered.append(self.uncertainty.kept(item))
            due -= len(item.refs) + len(item.faults)
            yield BatchScored(len(item.refs), len(item.faults))
            if due <= 0:
                yield self._written(item.shard, gathered)
                gathered = []
        if gathered:
            raise RuntimeError(f"shard {index} lacks {due} cells")

    def _written(self, shard: Shard, gathered: Sequence[ScoredCells]) -> ShardDone:
        """Write one part."""
        table = shard_table(shard, gathered, self.uncertainty)
        if self.merge is not None:
            table = self.merge(shard, table)
        path = self.results.part(shard.index)
        part = write_recorded(self.results, path, table, self.fingerprint, self.revision)
        log.info("shard %05d: %d scored, %d at fault", shard.index, part.scored, part.bad)
        return ShardDone(shard.index, part.scored, part.bad)


def committed_parts(
    results: ResultsFolder,
    shard_count: int,
    fingerprint: Fingerprint,
    wanted: Container[int] | None = None,
) -> dict[int, TableRecord]:
    """
    Find the shards whose part is what it was when it was written, by index.

    A part that is damaged, swapped or without a record is as good as none: it is said in the log,
    and the next run of the same kind screens its cells again.

    Args:
        results: Where they are.
        shard_count: How many the plan has.
        fingerprint: Of the run.
        wanted: Which shards are looked at; None for all.

    Raises:
        ResultsError: If there is any other table among the parts.
    """
    paths = [results.part(index) for index in range(shard_count)]
    _refuse_strangers(results, set(paths))
    found = {}
    for index, path in enumerate(paths):
        if wanted is not None and index not in wanted:
            continue
        if not path.exists() and not results.record_of(path).exists():
            continue
        try:
            found[index] = check_table(results, path, fingerprint.digest)
        except ResultsError as error:
            log.warning("%s: its cells are screened again", error)
    return found


def without_unreadable(
    results: ResultsFolder, parts: Mapping[int, TableRecord]
) -> dict[int, TableRecord]:
    """
    Return the parts in which every cell could be read; the others' cells may be tried again.

    Raises:
        ResultsError: If a part cannot be read.
    """
    return {
        index: record
        for index, record in parts.items()
        if not (record.bad and _holds_unreadable(results.part(index)))
    }


def _holds_unreadable(part: Location) -> bool:
    """Whether any cell of a part could not be read."""
    with reading(part), native_file(part) as file:
        return "unreadable" in pq.read_table(file, columns=["status"])["status"].to_pylist()


def whole_parts(results: ResultsFolder, digest: str) -> dict[Location, TableRecord]:
    """
    Return the parts that are there, in the order of the plan, each with its record.

    Raises:
        ResultsError: If there is none, or one is not what the run with this *digest* wrote.
    """
    return {path: check_table(results, path, digest) for path in part_files(results)}


def _refuse_strangers(results: ResultsFolder, expected: Container[Location]) -> None:
    """Raise ResultsError if something that this run did not write is among the parts."""
    for path in files_in(results.cells, "*.parquet"):
        recorded = path in expected and results.record_of(path).exists()
        if not recorded and not (path in expected and carries_fingerprint(path)):
            raise ResultsError(f"{path} is not a part of this run", hint=AWAY_HINT)

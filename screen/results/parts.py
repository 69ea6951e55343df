"""Scores become part files, one a shard: the rename is the commit."""

from __future__ import annotations

import json
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from screen.results.cell_rows import shard_table
from screen.results.schema import CODECS_KEY
from screen.results.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from engines.cells import Scores, Shard
    from screen.results.cell_uncertainty import ScoredCells, Uncertainty
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder

__all__ = ["BatchScored", "Commit", "ShardDone"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchScored:
    """A batch that is scored and not yet on disk: how many cells, how many of them at fault."""

    scored: int
    faults: int


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
    uncertainty: Uncertainty

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
        codecs = Counter(facts.codec for item in gathered for facts in item.facts)
        extra = {CODECS_KEY: json.dumps(codecs).encode()}
        write_table(table, self.results.part(shard.index), {**self.fingerprint.metadata, **extra})
        scored = sum(codecs.values())
        log.info("shard %05d: %d scored, %d at fault", shard.index, scored, len(table) - scored)
        return ShardDone(shard.index, scored, len(table) - scored)

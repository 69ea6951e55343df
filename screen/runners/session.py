"""A run that is ready to stream, and how it ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from screen.results.changes import changes_since
from screen.results.folder import open_results
from screen.results.parts import Commit
from screen.results.run_record import RunRecord, now
from screen.runners.events import Finished, Started
from screen.runners.finish import write_summary
from screen.runners.pipeline import screened
from screen.runners.source_watch import watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from engines.cells import Scores
    from engines.sources import Source
    from screen.results.cell_uncertainty import Uncertainty
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Plan
    from screen.results.table_records import TableRecord
    from screen.runners.events import BatchScored, ShardDone
    from screen.runners.stages import Stages
    from screen.summary.flags import Thresholds

__all__ = ["Session"]

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """
    One start of a run, ready to stream.

    Attributes:
        results: Where it writes.
        uncertainty: Turns scores into rows.
        thresholds: From where slides are flagged.
        plan: Its cells.
        fingerprint: What marks its files.
        parts: The shards that an earlier start committed, by index.
        stages: Decoder and runtime; None if every shard is committed.
        record: run.json so far.
    """

    results: ResultsFolder
    uncertainty: Uncertainty
    thresholds: Thresholds
    plan: Plan
    fingerprint: Fingerprint
    parts: Mapping[int, TableRecord]
    stages: Stages | None
    record: RunRecord

    def started(self) -> Started:
        """Return the event that says what runs, and how much an earlier start has done."""
        return Started(
            record=self.record,
            cells=len(self.plan),
            cells_done=sum(part.rows for part in self.parts.values()),
            bad_done=sum(part.bad for part in self.parts.values()),
        )

    def screened(self, source: Source | None) -> Iterator[BatchScored | ShardDone]:
        """
        Decode, score and commit the shards that have no part yet.

        Args:
            source: Of the cells: the run stops if it goes away. None: cells that cannot be read
                become rows, however many.

        Raises:
            SourceError: If the source has gone away; what is committed stays.
        """
        if self.stages is None:
            return
        pending = self.plan.shards(done=self.parts)
        commit = Commit(self.results, self.fingerprint, self.uncertainty)

        def watch(scores: Iterable[Scores]) -> Iterable[Scores]:
            return scores if source is None else watched(scores, self.plan, source)

        yield from screened(pending, self.stages.decoder, self.stages.runtime, watch, commit)

    def finish(self, source: Source, cells: int, seconds: float) -> Finished:
        """
        Write the tables that need every part, complete run.json, and list the source again.

        Args:
            source: Of the cells; what has changed in it since is a warning.
            cells: Rows this start has added.
            seconds: How long that took, with whatever the caller did in between.
        """
        summary = write_summary(
            self.results, self.plan, self.fingerprint, self.uncertainty, self.thresholds
        )
        record = replace(self.record, **summary)
        if record != self.record:
            self.results.drop_report()
        rates, finished = record.rates, record.finished
        if cells and seconds > 0:
            rates, finished = replace(rates, end_to_end=cells / seconds), None
        record = replace(record, state="done", rates=rates, finished=finished or now())
        self.results.write_run(record)
        changes = changes_since(self.plan, source, open_results(self.results.path))
        if changes:
            LOG.warning("The source is not as it was when it was listed: %s.", changes)
        return Finished(record, changes)

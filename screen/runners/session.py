"""A run that is ready to stream, and how it ends."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from screen.results.changes import changes_since, difference
from screen.results.folder import open_results
from screen.results.parts import Commit
from screen.results.planning import revised_plan
from screen.results.run_record import RunRecord, now
from screen.runners.events import Finished, Started
from screen.runners.finish import write_summary
from screen.runners.pipeline import screened
from screen.runners.source_watch import watched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from engines.cells import Scores, Shard
    from engines.sources import Source
    from engines.sources.slide_rule import SlideRule
    from screen.results.cell_uncertainty import Uncertainty
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Plan, ShardState
    from screen.results.table_records import TableRecord
    from screen.results.update import Outdated
    from screen.runners.events import BatchScored, ShardDone
    from screen.runners.stages import Stages
    from screen.share import Share
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
        outdated: Parts of which some rows stay and others are scored anew.
        share: Which of the shards are screened here; None for all.
    """

    results: ResultsFolder
    uncertainty: Uncertainty
    thresholds: Thresholds
    plan: Plan
    fingerprint: Fingerprint
    parts: Mapping[int, TableRecord]
    stages: Stages | None
    record: RunRecord
    outdated: Outdated | None = None
    share: Share | None = None

    @property
    def mine(self) -> dict[int, ShardState]:
        """Return what the part of each shard of this session has to hold, by index."""
        states = self.plan.states()
        if self.share is None:
            return states
        return {i: states[i] for i in self.share.shards(self.plan.shard_count) if i in states}

    def started(self) -> Started:
        """Return the event that says what runs, and how much an earlier start has done."""
        kept = self.outdated.kept_count(self.parts) if self.outdated else 0
        return Started(
            record=self.record,
            cells=sum(state.cells for state in self.mine.values()),
            cells_done=sum(part.rows for part in self.parts.values()) + kept,
            bad_done=sum(part.bad for part in self.parts.values()),
        )

    def updated(self, source: Source, rule: SlideRule) -> bool:
        """
        Write the next revision of the plan, if the source has changed since every part was written.

        The run goes on from there as if it had been interrupted: start it again.

        Returns:
            Whether there is a next revision.

        Raises:
            SourceError: If the source cannot be listed, or all cells are gone.
        """
        apart = difference(self.plan, source, open_results(self.results.path))
        if not apart.changes:
            return False
        shard_cells = self.record.choices.shard_cells.value
        plan = revised_plan(self.plan, apart, source, rule, shard_cells)
        where = replace(
            self.record.source, other_files=plan.facts.ignored, examples=plan.facts.examples
        )
        self.results.drop_report()
        self.results.write_run(replace(self.record, state="running", source=where))
        plan.write(self.results.plan, self.fingerprint.metadata)
        LOG.warning("The source has changed since it was listed: %s.", apart.changes)
        return True

    def screened(
        self, source: Source | None, shards: Iterable[Shard] | None = None
    ) -> Iterator[BatchScored | ShardDone]:
        """
        Decode, score and commit the shards that have no part yet.

        Args:
            shards: Those to screen; None: all that are left.
            source: Of the cells: the run stops if it goes away. None: cells that cannot be read
                become rows, however many.

        Raises:
            SourceError: If the source has gone away; what is committed stays.
        """
        if self.stages is None:
            return
        pending = self.pending() if shards is None else shards
        commit = Commit(
            self.results,
            self.fingerprint,
            self.uncertainty,
            self.plan.facts.revision,
            self.outdated.merged if self.outdated else None,
        )

        def watch(scores: Iterable[Scores]) -> Iterable[Scores]:
            return scores if source is None else watched(scores, self.plan, source)

        yield from screened(pending, self.stages.decoder, self.stages.runtime, watch, commit)

    def pending(self) -> Iterator[Shard]:
        """Yield the shards of this session that have no part yet."""
        mine = self.mine.keys() - self.parts.keys()
        done = {index for index in range(self.plan.shard_count) if index not in mine}
        return self.plan.shards(done=done, known=self.outdated.revisions if self.outdated else {})

    def finish(self, source: Source, cells: int, seconds: float) -> Finished:
        """
        Write the tables that need every part, complete run.json, and list the source again.

        Args:
            source: Of the cells; what has changed in it since is a warning.
            cells: Rows this start has added.
            seconds: How long that took, with whatever the caller did in between.
        """
        record = self.summarised(cells, seconds)
        changes = changes_since(self.plan, source, open_results(self.results.path))
        if changes:
            what = f"{changes}." if changes.problem else f"{changes}; --update scores them."
            LOG.warning("The source is not as it was when it was listed: %s", what)
        return Finished(record, changes)

    def summarised(self, cells: int = 0, seconds: float = 0) -> RunRecord:
        """
        Write the tables that need every part, and complete run.json.

        Args:
            cells: Rows this start has added.
            seconds: How long that took.
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
        return record

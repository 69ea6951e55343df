"""A run that may start streaming, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from screen.results.run_record import RunRecord, now
from screen.runners.finish import tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.cells import Shard
    from screen.results.cell_uncertainty import Uncertainty
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Plan
    from screen.results.table_records import TableRecord
    from screen.runners.startup_check import Stages
    from screen.summary.flags import Thresholds

__all__ = ["Job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    A run that may start streaming.

    Attributes:
        results: Where it writes.
        uncertainty: Turns scores into rows.
        thresholds: From where slides are flagged.
        plan: Its cells.
        fingerprint: What marks its files.
        done: The shards that an earlier start committed, by index.
        stages: Decoder and runtime; None if nothing is pending.
        record: run.json so far.
    """

    results: ResultsFolder
    uncertainty: Uncertainty
    thresholds: Thresholds
    plan: Plan
    fingerprint: Fingerprint
    done: Mapping[int, TableRecord]
    stages: Stages | None
    record: RunRecord

    @property
    def cells_done(self) -> int:
        """How many cells an earlier start committed."""
        return sum(part.rows for part in self.done.values())

    @property
    def bad_done(self) -> int:
        """How many of those could not be scored."""
        return sum(part.bad for part in self.done.values())

    def pending(self) -> Iterator[Shard]:
        """Yield the shards that have no part yet."""
        return self.plan.shards(done=self.done)

    def finish(self, cells: int, seconds: float) -> None:
        """
        Write what is known only now, and complete run.json.

        Args:
            cells: Rows this start has added.
            seconds: How long that took, with whatever the caller did in between.
        """
        summary = tell(self.results, self.plan, self.fingerprint, self.uncertainty, self.thresholds)
        told = replace(self.record, **summary)
        if told != self.record:
            self.results.drop_report()
        rates, finished = told.rates, told.finished
        if cells:
            rates, finished = replace(rates, end_to_end=cells / seconds), None
        self.results.write_run(
            replace(
                told,
                state="done",
                rates=rates,
                finished=finished or now(),
            )
        )

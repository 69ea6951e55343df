"""A run that may start streaming, and how it ends."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engines.errors import ResultsError
from screen.results.run_record import RunRecord, now
from screen.results.schema import CODECS_KEY, FINGERPRINT_KEY
from screen.results.tables import AWAY_HINT, read_footer
from screen.runners.finish import tell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.cells import Shard
    from screen.results.cell_uncertainty import Uncertainty
    from screen.results.fingerprint import Fingerprint
    from screen.results.folder import ResultsFolder
    from screen.results.plan import Plan
    from screen.runners.startup_check import Stages
    from screen.summary.flags import Thresholds

__all__ = ["Job", "Part", "committed_parts"]


@dataclass(frozen=True, slots=True)
class Part:
    """A committed shard: how many rows, and which codec decoded how many of them."""

    cells: int
    codecs: Mapping[str, int]

    @property
    def bad(self) -> int:
        """How many cells could not be scored."""
        return self.cells - sum(self.codecs.values())


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
    done: Mapping[int, Part]
    stages: Stages | None
    record: RunRecord

    @property
    def cells_done(self) -> int:
        """How many cells an earlier start committed."""
        return sum(part.cells for part in self.done.values())

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
        decoded_by: Counter[str] = Counter()
        for part in committed_parts(self.results, self.plan, self.fingerprint).values():
            decoded_by.update(part.codecs)
        rates, finished = told.rates, told.finished
        if cells:
            rates, finished = replace(rates, end_to_end=cells / seconds), None
        self.results.write_run(
            replace(
                told,
                state="done",
                decoded_by=dict(decoded_by),
                rates=rates,
                finished=finished or now(),
            )
        )


def committed_parts(
    results: ResultsFolder, plan: Plan, fingerprint: Fingerprint
) -> dict[int, Part]:
    """
    Find the committed shards.

    Raises:
        ResultsError: If there is any other table among the parts.
    """
    expected = {results.part(index): index for index in range(plan.shard_count)}
    parts = {}
    for path in results.cells.glob("*.parquet"):
        footer = read_footer(path)
        metadata = footer.metadata or {}
        if path not in expected or metadata.get(FINGERPRINT_KEY) != fingerprint.digest.encode():
            raise ResultsError(f"{path} is not a part of this run", hint=AWAY_HINT)
        parts[expected[path]] = Part(footer.num_rows, json.loads(metadata[CODECS_KEY]))
    return parts

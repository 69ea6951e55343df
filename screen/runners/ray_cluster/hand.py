"""A worker of a run on Ray, as the process that hands out shards sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from screen.results.run_record import WorkerRecord, now

if TYPE_CHECKING:
    from engines.cells import Shard
    from screen.runners.ray_cluster.worker import Prepared

__all__ = ["Hand"]


@dataclass(slots=True)
class Hand:
    """
    A worker, as this process sees it.

    Attributes:
        name: For people.
        actor: Ray's handle of it.
        due: What Ray will answer next: that it is prepared, or its events.
        prepared: What it said when it was; None before.
        given: The shards that it has, the one in work first.
        unsaved: Cells and faults scored of shards that are not on disk yet.
        shards, cells, bad: What it has written.
        started: When it was ready, UTC; *since*: likewise, by the clock of this process.
        lost_since: Since when it cannot be reached; 0 if it can.
    """

    name: str
    actor: Any
    due: Any
    prepared: Prepared | None = None
    given: dict[int, Shard] = field(default_factory=dict)
    unsaved: tuple[int, int] = (0, 0)
    shards: int = 0
    cells: int = 0
    bad: int = 0
    started: str = ""
    since: float = 0.0
    lost_since: float = 0.0

    def record(self) -> WorkerRecord | None:
        """Say what it has done; None if it never came to work."""
        if self.prepared is None:
            return None
        record, seconds = self.prepared.record, time.monotonic() - self.since
        return WorkerRecord(
            name=self.name,
            machine=self.prepared.machine,
            threads=record.choices.threads.value,
            versions=self.prepared.versions,
            parity=record.parity,
            rates=replace(record.rates, end_to_end=self.cells / seconds if self.cells else None),
            shards=self.shards,
            cells=self.cells,
            bad=self.bad,
            started=self.started,
            finished=now(),
        )

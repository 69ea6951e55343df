"""What runs in each worker of a run on Ray: one decoder, one runtime, shards as they are handed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from engines.hardware.machine import Machine, package_versions, this_machine
from screen.results.parts import BatchScored, ShardDone
from screen.runners.building import without_events
from screen.runners.opening import opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.cells import Shard
    from screen.options import RunOptions
    from screen.results.run_record import RunRecord
    from screen.runners.session import Session
    from screen.runners.start import Start

__all__ = ["Prepared", "Worker"]

SECONDS_BETWEEN_EVENTS = 0.5


@dataclass(frozen=True, slots=True)
class Prepared:
    """
    A worker that can run what the run needs.

    Attributes:
        record: run.json, with what was measured on this worker.
        machine: Where it is, and on which GPU.
        versions: Of packages there.
    """

    record: RunRecord
    machine: Machine
    versions: Mapping[str, str | None]


class Worker:
    """A Ray actor: ``prepare``, then ``screen`` beside any number of ``give``."""

    def __init__(self, options: RunOptions) -> None:
        """Keep what was asked for."""
        self._options = options
        self._shards: SimpleQueue[Shard | None] = SimpleQueue()
        self._start: Start | None = None
        self._session: Session | None = None

    def prepare(self, *, begin: bool) -> Prepared:
        """
        Open and check what will run, and, if this worker is to *begin* it, begin the run.

        Raises:
            UserError: If this worker cannot take part.
        """
        self._start = start = opened(self._options)
        earlier = None if begin and self._options.restart else start.results.read_run()
        if earlier is None and begin:
            session = without_events(start.new())
        else:
            session = without_events(start.helper(_seen(earlier, start)))
        self._session = session
        return Prepared(session.record, this_machine(), package_versions())

    def give(self, shard: Shard | None) -> None:
        """Hand over a shard to screen; None: there will be no more."""
        self._shards.put(shard)

    def screen(self) -> Iterator[BatchScored | ShardDone]:
        """
        Screen what is given, and write a part for each shard.

        Yields:
            What was scored, twice a second, and each shard once its part is there.
        """
        assert self._session is not None
        assert self._start is not None
        source = None if self._options.allow_unreadable else self._start.source
        while (shard := self._shards.get()) is not None:
            yield from _gathered(self._session.screened(source, self._at_hand(shard)))

    def _at_hand(self, shard: Shard) -> Iterator[Shard]:
        """
        Yield a shard and those that wait behind it.

        Where none does, the stream ends, and so drains: what it decodes ahead of must not wait for
        a shard that is handed out only once an earlier one is done.
        """
        yield shard
        while True:
            try:
                following = self._shards.get_nowait()
            except Empty:
                return
            if following is None:
                self._shards.put(None)
                return
            yield following


def _seen(record: RunRecord | None, start: Start) -> RunRecord:
    """Return run.json, which every worker has to see."""
    from engines.errors import ResultsError

    if record is None:
        raise ResultsError(
            f"there is no run.json in {start.results.path} on this machine",
            hint="give a results folder that all machines share, or a bucket, as --out",
        )
    return record


def _gathered(
    events: Iterator[BatchScored | ShardDone],
) -> Iterator[BatchScored | ShardDone]:
    """Add up batches for a while: an event that crosses the network costs more than a batch."""
    scored = faults = 0
    last = time.monotonic()
    for event in events:
        if isinstance(event, BatchScored):
            scored, faults = scored + event.scored, faults + event.faults
        ends = isinstance(event, ShardDone)
        if ends or time.monotonic() - last > SECONDS_BETWEEN_EVENTS:
            yield BatchScored(scored, faults)
            scored = faults = 0
            last = time.monotonic()
        if ends:
            yield event

"""A run in this process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from screen.runners.events import BatchScored
from screen.runners.opening import opened, torch_threads_put_back

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from screen.options import RunOptions
    from screen.runners.events import Event
    from screen.runners.session import Session
    from screen.runners.start import Start

__all__ = ["run", "streamed"]


def run(options: RunOptions) -> Iterator[Event]:
    """Screen all of a source here; see ``screen.runners.run``."""
    start = opened(options)
    source = start.source
    with torch_threads_put_back(), start.results.locked():
        session = yield from start.session()
        since = time.perf_counter()
        cells = yield from streamed(session, start)
        if options.update and session.updated(source, options.slide):
            session = yield from start.session()
            since = time.perf_counter()
            cells = yield from streamed(session, start)
        yield session.finish(source, cells, time.perf_counter() - since)


def streamed(session: Session, start: Start) -> Generator[Event, None, int]:
    """Screen what is left, and return how many cells that were."""
    yield session.started()
    cells = 0
    for event in session.screened(None if start.options.allow_unreadable else start.source):
        if isinstance(event, BatchScored):
            cells += event.scored + event.faults
        yield event
    return cells

"""
A run on Ray: several workers, here or on a cluster, are handed shards by this process.

Ray places the workers (an actor each), starts them again where one dies, and places those that
found no room once a node joins. What is here decides what is screened: each worker has a shard in
work and one waiting; what a dead worker had goes to others. Workers write the parts; this process
counts, and in the end summarises.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.errors import ResultsError, UserError
from engines.registry import AUTO
from screen.runners.opening import opened
from screen.runners.ray_cluster.connection import connected, shares
from screen.runners.ray_cluster.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from screen.options import RunOptions
    from screen.runners.events import Event
    from screen.runners.session import Session
    from screen.runners.start import Start

__all__ = ["run"]


def run(options: RunOptions) -> Iterator[Event]:
    """Screen a source by several workers; see ``screen.runners.run``."""
    if options.update:
        raise UserError(
            "--update runs in one process", hint="leave out --workers and --ray; go on with them"
        )
    start = opened(replace(options, device=AUTO))
    with start.results.locked():
        earlier = None if options.restart else start.results.read_run()
        if earlier is not None and not _left(session := start.planned(earlier)):
            yield session.started()
            yield session.finish(start.source, 0, 0)
            return
        with connected(options) as ray:
            yield from _screened(start, Crew(ray, options, shares(ray, options)))


def _screened(start: Start, crew: Crew) -> Iterator[Event]:
    """Have a crew screen what is left, and finish the run."""
    crew.begin()
    record = start.results.read_run()
    assert record is not None
    session = start.planned(replace(record, state="running"))
    _require_no_update(session)
    start.results.write_run(session.record)
    yield session.started()
    since = time.perf_counter()
    yield from crew.screen(session)
    crew.require_all_done()
    yield _finished(session, start, crew, time.perf_counter() - since)


def _left(session: Session) -> bool:
    """Whether any shard has no part yet."""
    return bool(session.mine.keys() - session.parts.keys())


def _require_no_update(session: Session) -> None:
    """Refuse parts of which only some rows are to be scored anew: these are one process's work."""
    if session.outdated is not None and session.outdated.records:
        raise ResultsError(
            f"{session.results.path} is being brought up to date with its source, which one "
            "process has to end",
            hint="give slidescreen run without --workers and --ray",
        )


def _finished(session: Session, start: Start, crew: Crew, seconds: float) -> Event:
    """Write what needs every part, and who screened them."""
    workers = crew.records() or session.record.workers
    session = replace(session, record=replace(session.record, workers=tuple(workers)))
    return session.finish(start.source, crew.cells, seconds)

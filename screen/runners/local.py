"""A run in this process."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import ResultsError
from engines.hardware.device_choice import use_device
from engines.locations import location
from engines.models.bundle import ModelBundle
from engines.sources import open_source
from screen.results.folder import ResultsFolder
from screen.results.schema import class_columns
from screen.runners.events import BatchScored
from screen.runners.start import Start

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from engines.locations import Location
    from engines.sources import Source
    from screen.options import RunOptions
    from screen.runners.events import Event
    from screen.runners.session import Session

__all__ = ["run"]


def run(options: RunOptions) -> Iterator[Event]:
    """
    Screen a source, or go on where an earlier run of the same kind stopped.

    A generator of events (``screen.runners.events``): nothing happens before it is iterated. A
    shard is on disk when its ShardDone comes; slides and the final run.json are when Finished does.
    Left early, it may be run again.

    Args:
        options: What to screen, where to, and how.

    Raises:
        UserError: Any of ``engines.errors``; the message and its hint say what to do.
    """
    use_device(options.device)
    bundle = ModelBundle.load(Path(options.model))
    class_columns(bundle.classes)
    source = open_source(options.sources, options.reading)
    results = ResultsFolder(location(options.out))
    _require_outside(results.path, options.sources)
    with _torch_threads_put_back(), results.locked():
        start = Start(options, bundle, source, results)
        session = yield from start.session()
        since = time.perf_counter()
        cells = yield from _streamed(session, options, source)
        if options.update and session.updated(source, options.slide):
            session = yield from start.session()
            since = time.perf_counter()
            cells = yield from _streamed(session, options, source)
        yield session.finish(source, cells, time.perf_counter() - since)


def _streamed(session: Session, options: RunOptions, source: Source) -> Generator[Event, None, int]:
    """Screen what is left, and return how many cells that were."""
    yield session.started()
    cells = 0
    for event in session.screened(None if options.allow_unreadable else source):
        if isinstance(event, BatchScored):
            cells += event.scored + event.faults
        yield event
    return cells


def _require_outside(out: Location, sources: Iterable[Location]) -> None:
    """Refuse to write results among the cells: the next run would list what this one wrote."""
    if not isinstance(out, Path):
        return
    real = Path(os.path.realpath(out))
    for source in sources:
        if (
            isinstance(source, Path)
            and source.is_dir()
            and real.is_relative_to(os.path.realpath(source))
        ):
            raise ResultsError(
                f"the results folder {out} lies in the folder of the cells, {source}",
                hint="choose an --out outside of it",
            )


@contextmanager
def _torch_threads_put_back() -> Iterator[None]:
    """Leave PyTorch's number of threads as it was: it is the whole process's."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)

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
from screen.runners.events import ShardDone
from screen.runners.start import Start

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engines.locations import Location
    from screen.options import RunOptions
    from screen.runners.events import Event

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
        session = yield from Start(options, bundle, source, results).session()
        yield session.started()
        start, cells = time.perf_counter(), 0
        for event in session.screened(None if options.allow_unreadable else source):
            if isinstance(event, ShardDone):
                cells += event.scored + event.faults
            yield event
        yield session.finish(source, cells, time.perf_counter() - start)


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

"""From options to results: start, stream, finish; and which runner does so."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    events: Iterator[Event] = import_module(f"screen.runners.{_runner(options)}").run(options)
    return events


def _runner(options: RunOptions) -> str:
    """Name the module that runs this."""
    if options.workers or options.ray:
        return "ray_cluster"
    return "part" if options.part else "local"

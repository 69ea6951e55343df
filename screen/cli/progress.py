"""How work looks while it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from engines.command import say
from engines.command_log import shown_log
from engines.sources.names import counted, printable
from screen.runners.events import BatchScored, Building, Finished, Started

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from rich.console import Console
    from rich.progress import TaskID

    from screen.results.run_record import RunRecord
    from screen.runners.events import Event

__all__ = ["show_building", "show_events", "show_logs"]

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 10.0
MOST_NAMED_WORKERS = 4


def show_events(events: Iterable[Event], console: Console, *, quiet: bool) -> RunRecord:
    """
    Show a run as it goes on, on stderr: a bar on a terminal, lines elsewhere, or nothing.

    Returns:
        run.json as it is at the end.
    """
    if quiet:
        return _last_record(events)
    if console.is_terminal:
        return _last_record(_bar(events, console))
    return _last_record(_lines(events))


def show_building(events: Generator[Building, None, T], console: Console) -> T:
    """Show how far an engine is, on a terminal; return what was built."""
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=1.0, visible=False)
        while True:
            try:
                step = next(events)
            except StopIteration as end:
                built: T = end.value
                return built
            bar.update(task, completed=step.share, description=printable(step.phase), visible=True)


@contextmanager
def show_logs(console: Console, *, quiet: bool) -> Iterator[None]:
    """
    Print on stderr what is logged while something takes long, above a bar that is being drawn.

    Of the engines all that takes long, such as an export; of runs warnings: what was not taken, or
    a part that is damaged. Quiet: warnings alone.
    """
    shown = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    show = shown if console.is_terminal else say
    levels = {"engines": logging.WARNING if quiet else logging.INFO, "screen": logging.WARNING}
    with ExitStack() as stack:
        for name, level in levels.items():
            stack.enter_context(shown_log(name, level, show))
        yield


def _last_record(events: Iterable[Event]) -> RunRecord:
    """Iterate to the end; return the record of the last event that has one."""
    record = None
    for event in events:
        if isinstance(event, Started | Finished):
            record = event.record
    assert record is not None
    return record


def _bar(events: Iterable[Event], console: Console) -> Iterator[Event]:
    """Draw a progress bar of the events that pass."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[bad]:,} bad{task.fields[workers]}"),
    )
    with Progress(*columns, console=console) as progress:
        task, rates = progress.add_task("preparing", total=None, bad=0, workers=""), _WorkerRates()
        for event in events:
            _draw(progress, task, event)
            if rates.take(event):
                progress.update(task, workers=f"; {rates}")
            yield event


def _draw(progress: Progress, task: TaskID, event: Event) -> None:
    """Bring a bar up to date."""
    match event:
        case Building(share=share):  # the phase's name means something to its maker only
            done = int(100 * share)
            progress.update(task, description="building an engine, %", total=100, completed=done)
        case Started():
            for line in event.record.choice_lines:
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            progress.reset(
                task,
                total=event.cells,
                completed=event.cells_done,
                bad=event.bad_done,
                workers="",
                description="screening",
            )
        case BatchScored(scored=scored, faults=faults):
            bad = progress.tasks[0].fields["bad"] + faults
            progress.update(task, advance=scored + faults, bad=bad)


class _Rate(ProgressColumn):
    """Cells per second."""

    def render(self, task: Task) -> Text:
        """Return the recent rate."""
        return Text(f"{task.speed:,.1f} cells/s" if task.speed else "- cells/s")


def _lines(events: Iterable[Event]) -> Iterator[Event]:
    """Print a line about the events that pass every few seconds, and one at the end."""
    lines = _Lines()
    try:
        for event in events:
            lines.take(event)
            yield event
    finally:
        lines.print()


class _WorkerRates:
    """How fast each of several workers is, since it scored its first cells."""

    def __init__(self) -> None:
        """Begin with none."""
        self._workers: dict[str, tuple[int, float]] = {}

    def take(self, event: Event) -> bool:
        """Count what a worker scored; return whether one did."""
        if not isinstance(event, BatchScored) or not event.worker:
            return False
        cells, since = self._workers.get(event.worker, (0, time.monotonic()))
        self._workers[event.worker] = cells + event.scored + event.faults, since
        return True

    def __str__(self) -> str:
        """Name each with its rate, or, of many, the slowest and the fastest."""
        now = time.monotonic()
        rates = {
            name: cells / max(now - since, 1.0) for name, (cells, since) in self._workers.items()
        }
        if len(rates) <= MOST_NAMED_WORKERS:
            return ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
        slowest, fastest = min(rates, key=rates.__getitem__), max(rates.values())
        return f"{len(rates)} workers, {rates[slowest]:,.0f}/s ({slowest}) to {fastest:,.0f}/s"


class _Lines:
    """Counts cells, and says how far they are."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._total = self._done = self._bad = self._new = self._built = 0
        self._start = self._last = self._now = time.monotonic()
        self._workers = _WorkerRates()

    def take(self, event: Event) -> None:
        """Count, and print a line now and then."""
        self._workers.take(event)
        match event:
            case Building(share=share, phase=phase) if int(share * 10) > self._built:
                self._built = int(share * 10)
                say(f"building an engine: {self._built}0% ({phase})")
            case Started(cells=cells, cells_done=done, bad_done=bad):
                for line in event.record.choice_lines:
                    say(line)
                self._total, self._done, self._bad = cells, done, bad
                self._start = self._last = self._now = time.monotonic()
            case BatchScored(scored=scored, faults=faults):
                self._bad += faults
                self._new += scored + faults
                self._now = time.monotonic()
                if self._now - self._last >= SECONDS_BETWEEN_LINES:
                    self._last = self._now
                    self.print()

    def print(self) -> None:
        """Print cells done of total, cells/s, time left and bad cells, once there is a total."""
        if not self._total:
            return
        done = self._done + self._new
        parts = [f"{done:,} of {counted(self._total, 'cell')}", f"{self._bad:,} bad"]
        if self._new:
            rate = self._new / max(self._now - self._start, 1e-9)
            left = timedelta(seconds=round((self._total - done) / rate))
            parts[1:1] = [f"{rate:,.1f} cells/s", f"{left} left"]
        workers = str(self._workers)
        say("; ".join([", ".join(parts), *([workers] if workers else [])]))

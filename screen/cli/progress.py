"""How a run looks: a progress bar on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from engines.sources.names import class_words, printable
from screen.results.schema import METHODS
from screen.summary.flags import flag_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from engines.cells import Scores
    from screen.results.run_record import RunRecord
    from screen.runners.session import Job

__all__ = ["BarWatch", "LineWatch", "printable", "slide_table"]

SECONDS_BETWEEN_LINES = 10.0
MOST_SLIDES = 40


def slide_table(run: RunRecord, slides: Sequence[Mapping[str, Any]]) -> Table:
    """Draw the slides: cells, bad cells, share positive with its interval, why to look."""
    model = run.model
    positive = model.positive and class_words(model.positive, model.display_names)
    method = "rogan_gladen" if run.trust.available else "wilson"
    table = Table(title_justify="left", title=_slides(len(slides)), header_style="bold")
    table.add_column("slide", overflow="fold")
    table.add_column("cells", justify="right")
    table.add_column("bad", justify="right")
    if positive is not None:
        title = f"share of {positive} (95%, {METHODS[method]})"
        table.add_column(Text(title), justify="right")
    table.add_column("flags")
    for row in slides[:MOST_SLIDES]:
        name, bad = Text(printable(row["slide"])), row["n_cells"] - row["n_ok"]
        share = [_share(row, method)] if positive is not None else []
        flags = Text(printable(", ".join(flag_words(code, positive) for code in row["flags"])))
        table.add_row(name, f"{row['n_cells']:,}", f"{bad:,}", *share, flags)
    if len(slides) > MOST_SLIDES:
        table.caption = f"and {len(slides) - MOST_SLIDES:,} more in slides.parquet"
    return table


def _slides(count: int) -> str:
    """Write how many slides."""
    return f"{count:,} slide{'' if count == 1 else 's'}"


def _share(row: Mapping[str, Any], method: str) -> str:
    """Return a share with its interval, or that there is none."""
    if row["fraction_positive"] is None:
        return "no cell scored"
    name = "fraction_positive_rogan_gladen" if method == "rogan_gladen" else "fraction_positive"
    share = "unknown" if row[name] is None else f"{row[name]:.1%}"
    low, high = (row[f"fraction_positive_{method}95_{end}"] for end in ("low", "high"))
    return f"{share} ({low:.1%} to {high:.1%})"


class BarWatch:
    """A Watch (see ``screen.runners.local``) that draws a progress bar; a context manager."""

    def __init__(self, console: Console, say: Callable[[str], None]) -> None:
        """Draw on *console*, and *say* what was chosen."""
        self._say = say
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[bad]:,} bad"),
            console=console,
        )
        self._task = self._progress.add_task("preparing", total=None, bad=0)

    def __enter__(self) -> Self:
        """Start drawing."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar as it is."""
        self._progress.stop()

    def building(self, share: float, phase: str) -> None:
        """Show how far the engine is; the phase's name means something to its maker only."""
        del phase
        self._progress.update(
            self._task, description="building an engine, %", total=100, completed=int(100 * share)
        )

    def begun(self, job: Job) -> None:
        """Say what was chosen; start counting from what is already done."""
        for line in job.record.choice_lines:
            self._say(line)
        self._progress.reset(
            self._task,
            total=len(job.plan),
            completed=job.cells_done,
            bad=job.bad_done,
            description="screening",
        )

    def scored(self, scores: Scores) -> None:
        """Move on."""
        bad = len(scores.faults)
        self._progress.update(
            self._task,
            advance=len(scores.refs) + bad,
            bad=self._progress.tasks[0].fields["bad"] + bad,
        )


class _Rate(ProgressColumn):
    """Cells per second."""

    def render(self, task: Task) -> Text:
        """Return the recent rate."""
        return Text(f"{task.speed:,.1f} cells/s" if task.speed else "- cells/s")


class LineWatch:
    """A Watch that prints a line every few seconds; a context manager."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Print with *say*."""
        self._say = say
        self._total = self._done = self._bad = self._new = self._built = 0
        self._start = self._last = self._now = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing to start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Say where it ended."""
        if self._total:
            self._line()

    def building(self, share: float, phase: str) -> None:
        """Say so at every tenth."""
        if int(share * 10) > self._built:
            self._built = int(share * 10)
            self._say(f"building an engine: {self._built}0% ({printable(phase)})")

    def begun(self, job: Job) -> None:
        """Say what was chosen."""
        for line in job.record.choice_lines:
            self._say(line)
        self._total, self._done, self._bad = len(job.plan), job.cells_done, job.bad_done
        self._start = self._last = self._now = time.monotonic()

    def scored(self, scores: Scores) -> None:
        """Count, and say so now and then."""
        self._bad += len(scores.faults)
        self._new += len(scores.refs) + len(scores.faults)
        self._now = time.monotonic()
        if self._now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self._now
            self._line()

    def _line(self) -> None:
        """Print cells done of total, cells/s, time left and bad cells."""
        done = self._done + self._new
        parts = [f"{done:,} of {self._total:,} cells", f"{self._bad:,} bad"]
        if self._new:
            rate = self._new / max(self._now - self._start, 1e-9)
            left = timedelta(seconds=round((self._total - done) / rate))
            parts[1:1] = [f"{rate:,.1f} cells/s", f"{left} left"]
        self._say(", ".join(parts))

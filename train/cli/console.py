"""What the training commands print: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.progress import Progress

    from train.data.leak_check import CheckReport
    from train.evaluation.evaluate import Evaluation
    from train.evaluation.uncertainty import Limits
    from train.fit import Run
    from train.recipe import Recipe
    from train.sweep import SweepRow
    from train.trainer.events import EpochDone, StepDone

__all__ = ["check", "evaluation", "note", "parts", "sweep", "table", "training"]

QUIET_S = 30.0  # between lines of progress where there is no terminal
NAMED = 5  # bad files named before the rest is only counted


def note(text: str) -> None:
    """Say something that is not a result."""
    _err().print(text, highlight=False, soft_wrap=True, markup=False)


def parts(run: Run) -> None:
    """Say what is trained on, what is held out, and what was left out."""
    split = run.parts
    for name, cells in (("training", split.training), ("held out", split.held_out)):
        subjects = {cell.subject for cell in cells}
        note(f"{name}: {len(cells)} cells of {len(subjects)} subjects")
    if split.shared:
        note(
            f"Leak: {len(split.shared.subjects)} subjects and {len(split.shared.images)} images on "
            "both sides; figures of this protocol say nothing about new subjects"
        )
    if split.repeated:
        note(
            f"left out: {len(split.repeated)} cells whose image occurs before or under two classes"
        )
    _faults(run.faults)
    if run.training.history:
        note(f"going on after epoch {len(run.training.history)}")


@contextmanager
def training(run: Run) -> Iterator[Callable[[StepDone | EpochDone], None]]:
    """Show a training's events as they come: a bar on a terminal, a line per epoch anywhere."""
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    from train.trainer.events import EpochDone

    columns = (
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=_err(), disable=not _err().is_terminal) as bar:
        task = bar.add_task("training", total=run.recipe.epochs, rate="")

        said = time.monotonic()

        def show(event: StepDone | EpochDone) -> None:
            nonlocal said
            if isinstance(event, EpochDone):
                bar.console.print(_epoch_line(event), highlight=False)
                return
            _advance(bar, task, event)
            if bar.disable and time.monotonic() - said > QUIET_S:
                said = time.monotonic()
                note(_step_line(event))

        yield show


def evaluation(judged: Evaluation) -> None:
    """Print figures with their intervals, and the subjects called worst."""
    out = Console()
    table = Table("figure", "value", "95% interval", title=f"{judged.cells} cells")
    for name, figure in judged.figures.items():
        table.add_row(name, f"{figure.value:.4f}", figure.bounds(4))
    out.print(table)
    worst = sorted(judged.subjects.items(), key=lambda row: row[1][2])[:NAMED]
    out.print("called right by subject, the worst:")
    for subject, (label, count, right) in worst:
        out.print(f"  {subject or '(unknown)'} ({label}, {count} cells): {right:.3f}")
    if judged.faults:
        note(f"{judged.faults} cells did not decode and are not in these figures")
    if judged.seen:
        note(
            f"{len(judged.seen)} of these subjects were trained on: the figures are flattered "
            "(--unseen leaves them out)"
        )


def limits(found: Limits) -> None:
    """Print how well a model knows its limits."""
    out = Console()
    title = f"{found.held_out_cells} held-out cells of {found.held_out_subjects} subjects"
    table = Table("class", f"sets of {found.coverage:.0%} hold", "guaranteed", title=title)
    for name, share in found.measured.items():
        table.add_row(name, _share(share), f"{found.guaranteed[name]:.4f}")
    out.print(table)
    out.print(f"abstained from: {found.abstained:.1%} of the held-out cells")
    for kind, value in found.auroc.items():
        out.print(f"AUROC of distance, {kind}: {value:.4f}")


def check(report: CheckReport) -> None:
    """Print what is in the cells and what would leak."""
    out = Console()
    table = Table("class", "cells", "subjects", title=f"{report.cells} cells")
    for label, (cells, subjects) in report.classes.items():
        table.add_row(label, str(cells), str(subjects))
    out.print(table)
    if len(report.classes) == 1:
        out.print("one class only: the class of a cell is the name of the folder that holds it")
    out.print(f"cells without a subject: {report.nameless}")
    out.print(f"subjects with cells of several classes: {len(report.mixed)}")
    out.print(
        f"images that occur more than once: {len(report.repeats)}, of them under several subjects: "
        f"{report.straddling}, under several classes: {report.contradictions}"
    )
    if report.shared:
        out.print(
            f"Leak: {len(report.shared.subjects)} subjects "
            f"({', '.join(report.shared.subjects)}) and "
            f"{len(report.shared.images)} images are among the other cells too"
        )
    elif report.against:
        out.print(f"no leak: none of the subjects and images is among the {report.against} others")
    if report.faults is not None:
        out.print(f"cells that do not decode: {len(report.faults)}")
        _faults(dict(report.faults))


def sweep(rows: Sequence[SweepRow], recipe: Recipe) -> None:
    """Print what was measured beside what the paper reports."""
    from train.sweep import FIGURES, PAPER_F1, PAPER_ONLY

    table = Table("model", "fold", "seed", *FIGURES, "paper's F1", "")
    for row in rows:
        reported = PAPER_F1.get(row.model, "")
        figures = [_share(row.figures.get(name)) for name in FIGURES]
        table.add_row(row.model, str(row.fold), str(row.seed), *figures, reported, row.problem)
    _print_whole(table)
    if recipe.protocol != "image":
        note(
            "The paper's figures are of a split by image; these are of a split by subject and "
            "not comparable."
        )
    note(PAPER_ONLY)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text as a table, nothing cut off."""
    shown = Table(*header, title=title, title_justify="left")
    for row in rows:
        shown.add_row(*row)
    _print_whole(shown)


def _print_whole(table: Table) -> None:
    """Print a table with nothing cut off or wrapped, however narrow the terminal or the pipe."""
    out = Console()
    needed = out.measure(table, options=out.options.update(max_width=sys.maxsize)).maximum
    Console(width=max(out.width, needed)).print(table)


def _err() -> Console:
    """Return the console of notes; made when needed, so that it writes where stderr is now."""
    return Console(stderr=True)


def _faults(faults: dict[str, str]) -> None:
    """Name the first cells that did not decode, and count the others."""
    for path, reason in list(faults.items())[:NAMED]:
        note(f"does not decode: {path}: {reason}")
    if len(faults) > NAMED:
        note(f"and {len(faults) - NAMED} more do not decode")


def _advance(bar: Progress, task: object, event: StepDone) -> None:
    """Move the bar."""
    done = event.epoch + event.step / event.steps
    label = f"loss {event.loss:.3f}, {event.cells_per_s:.0f} cells/s"
    bar.update(task, completed=done, rate=label)  # type: ignore[arg-type]


def _step_line(event: StepDone) -> str:
    """Return how far an epoch is in one line."""
    left = (event.steps - event.step) * event.cells_per_step / event.cells_per_s
    return (
        f"epoch {event.epoch + 1}, step {event.step} of {event.steps}: loss {event.loss:.4f}, "
        f"{event.cells_per_s:.1f} cells/s, {left:.0f} s left in it"
    )


def _epoch_line(event: EpochDone) -> str:
    """Return one epoch in one line."""
    metrics = event.metrics
    return (
        f"epoch {event.epoch + 1}: loss {event.loss:.4f}, AUC {metrics['auc']:.4f}, "
        f"macro F1 {metrics['macro_f1']:.4f}, {event.cells_per_s:.1f} cells/s"
        f"{', best so far' if event.best else ''}"
    )


def _share(value: float | None) -> str:
    """Write a figure, or that there is none."""
    return "-" if value is None else f"{value:.4f}"

"""Many trainings of one recipe: models, folds, seeds. What is done is not done again."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engines.errors import UserError
from engines.files import whole_file
from train.data.holdout import parts_of
from train.data.splits import Fold
from train.fit import prepared_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from train.data.labelled_cells import LabelledCell
    from train.fit import FitOptions
    from train.recipe import Recipe

__all__ = [
    "FIGURES",
    "PAPER_F1",
    "PAPER_ONLY",
    "PlannedRun",
    "SweepRow",
    "plan",
    "swept",
    "write_table",
]

PAPER_F1 = {
    "efficientnet_b3": "94.30",
    "efficientnet_b0": "93.68",
    "efficientnet_b1": "93.38",
    "resnet50": "93.27",
    "resnet101": "92.74",
}
PAPER_ONLY = (
    "The paper (arXiv 2508.06535) also reports accuracy 92.02 and AUC 94.79 for efficientnet_b3; "
    "it reports no figure for the other models' accuracy and AUC, and none for efficientnet_b5."
)
FIGURES = ("auc", "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "ece")


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One training of a sweep."""

    model: str
    fold: int
    seed: int
    init: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.model}-fold{self.fold}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class SweepRow:
    """
    What one training of a sweep gave.

    Attributes:
        figures: By name; empty if there is a problem.
        problem: Why there are none, or empty.
    """

    model: str
    fold: int
    seed: int
    figures: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    def __str__(self) -> str:
        """Write it in one line."""
        told = self.problem or ", ".join(f"{n} {v:.4f}" for n, v in self.figures.items())
        return f"{self.model} fold {self.fold} seed {self.seed}: {told}"


def plan(models: str, folds: str, seeds: str, init: str) -> list[PlannedRun]:
    """
    List the trainings, model by model.

    Args:
        models: timm's names, separated by commas.
        folds: Numbers, likewise.
        seeds: Numbers, likewise.
        init: Starts, separated by semicolons, for ``WHAT`` may hold commas: ``MODEL=WHAT`` for one
            model, ``WHAT`` for the others.

    Raises:
        UserError: If a number is not one.
    """
    starts = dict(_start(part) for part in init.split(";"))
    return [
        PlannedRun(model, fold, seed, starts.get(model, starts.get("", "imagenet")))
        for model in _names(models)
        for fold in _numbers(folds)
        for seed in _numbers(seeds)
    ]


def swept(
    runs: Mapping[PlannedRun, Recipe], cells: Sequence[LabelledCell], options: FitOptions
) -> Iterator[SweepRow]:
    """
    Do each training in turn, into its own folder under ``options.out``, and yield its row.

    A training that cannot be done for a reason the user can mend becomes a row that says so.
    """
    for run, recipe in runs.items():
        try:
            yield _row(run, cells, recipe, options)
        except UserError as error:
            yield SweepRow(run.model, run.fold, run.seed, problem=str(error))


def write_table(file: Path, rows: Sequence[SweepRow]) -> None:
    """Write the rows as CSV, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as scratch, scratch.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["model", "fold", "seed", *FIGURES, "problem"])
        for row in rows:
            figures = [row.figures.get(name, "") for name in FIGURES]
            writer.writerow([row.model, row.fold, row.seed, *figures, row.problem])


def _row(
    run: PlannedRun, cells: Sequence[LabelledCell], recipe: Recipe, options: FitOptions
) -> SweepRow:
    """Do one training, or read what it gave when it was done before."""
    own = replace(options, out=options.out / run.name, init=run.init, fold=run.fold, seed=run.seed)
    parts = parts_of(cells, recipe.protocol, Fold(recipe.folds, run.fold, options.split_seed))
    prepared = prepared_run(parts, recipe, own)
    record = own.state / "figures.json"
    if not record.exists() or not prepared.is_done:
        for _ in prepared.epochs():
            pass
        _, judged = prepared.publish()
        figures = {name: judged.figures[name].value for name in FIGURES}
        with whole_file(record) as scratch:
            scratch.write_text(json.dumps(figures), encoding="utf-8")
    return SweepRow(run.model, run.fold, run.seed, json.loads(record.read_text(encoding="utf-8")))


def _start(part: str) -> tuple[str, str]:
    """Read ``MODEL=WHAT`` or ``WHAT``."""
    model, equals, what = part.partition("=")
    return (model.strip(), what.strip()) if equals else ("", part.strip())


def _names(text: str) -> list[str]:
    """Split at commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str) -> list[int]:
    """Split at commas, into numbers."""
    try:
        return [int(number) for number in _names(text)]
    except ValueError as error:
        raise UserError(f"{text!r} is not a list of numbers", hint="write it as 0,1,2") from error

"""``slidescreen-train adapt``: a bundle for another centre."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from train.cli import console
from train.cli.options import (
    cells_from,
    compute_from,
    compute_options,
    data_options,
    require_new_folder,
    review_option,
)

if TYPE_CHECKING:
    from train.evaluation.adaptation import Change

__all__ = ["adapt"]

WORDS = {
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1",
    "log_loss": "log loss",
    "ece": "calibration error",
}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@data_options
@review_option
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The new bundle's folder."
)
@compute_options
def adapt(**given: Any) -> None:  # fmt: skip
    """
    Adapt BUNDLE to another centre by some labelled CELLS of it, and write a new bundle.

    Temperature and threshold are fitted to the cells, each only where people whom it was not fitted
    to are clearly better off, and how far to trust the scores is measured on them; the weights
    stay. At least two people of each class are needed, and more tell more. What changes is said
    with intervals, for these cells and for the held-out cells that BUNDLE carries: there the new
    bundle may be worse, and then says so.

    \b
    Example:
      slidescreen-train adapt bundle our-cells --out bundle-of-ours
      slidescreen-train adapt bundle cells --review review.csv --out bundle-of-ours
    """
    from engines.models.bundle import ModelBundle
    from train.export.adapted_bundle import adapted_bundle

    require_new_folder(given["out"])
    compute = compute_from(given)
    console.note(compute.reason)
    bundle = ModelBundle.load(given["bundle"])
    made = adapted_bundle(bundle, cells_from(given), given["out"], compute.value, given["decoder"])
    console.note(f"Moved: {' and '.join(made.found.moved)}")
    _print("The new centre's cells", made.found.here)
    _print("Held-out cells of where the bundle came from", made.found.home)
    console.limits(made.limits)
    for line in _advice(made.found.home):
        console.note(line)
    console.note(f"Bundle {made.bundle.sha256[:12]} in {made.bundle.folder}")


def _print(title: str, change: Change) -> None:
    """Tabulate what changed."""
    rows = [
        (WORDS[name], *(str(part[name]) for part in parts), change.verdict(name))
        for name in change.before
        for parts in [(change.before, change.after, change.difference)]
    ]
    heading = f"{title}: {change.cells} of {change.people} people"
    console.table(heading, ("figure", "before", "after", "change", ""), rows)


def _advice(home: Change) -> list[str]:
    """Say what to make of it."""
    worse = " and ".join(WORDS[name] for name in home.named("worse"))
    if not worse:
        return []
    return [
        f"Where the bundle came from, {worse} is worse: use the new bundle for the new centre only."
    ]

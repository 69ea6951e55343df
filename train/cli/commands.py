"""``slidescreen-train``: the command group, and the commands that read cells and train."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from engines.command import MENDABLE, run_command
from engines.registry import AUTO, decoder_names
from engines.settings import SettingsGroup
from train.cli import console
from train.cli.adapt_command import adapt
from train.cli.bundle_commands import calibrate, evaluate
from train.cli.experiment_logs import experiment_log
from train.cli.fuse_commands import fuse
from train.cli.hub_commands import import_model, publish
from train.cli.options import (
    cells_from,
    cells_named,
    compute_from,
    compute_options,
    data_options,
    fit_options,
    fit_options_from,
    overrides_from,
    recipe_options,
)
from train.recipe import RECIPES
from train.recipe_overrides import recipe_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    from train.compute import Compute
    from train.fit import Run
    from train.recipe import Recipe
    from train.trainer.distributed import Processes

__all__ = ["cli", "main"]

PATH = click.Path(path_type=Path)


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    run_command(cli, "slidescreen-train", extra="train")


@click.group(
    cls=SettingsGroup,
    section=("train",),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="slidescreen", prog_name="slidescreen-train")
def cli() -> None:
    """Train, judge and check models of single-cell crops. For research only."""


cli.add_command(adapt)
cli.add_command(evaluate)
cli.add_command(calibrate)
cli.add_command(fuse)
cli.add_command(import_model)
cli.add_command(publish)


@cli.command()
@data_options
@fit_options
@recipe_options
@compute_options
def fit(**given: Any) -> None:
    """
    Train on labelled CELLS and write a bundle.

    CELLS are class folders, C-NMC 2019 folders as downloaded, or manifests (CSV or Parquet of
    path, label, subject). Killed and run again, it goes on from the last epoch; interrupted with
    Ctrl-C, it keeps the best so far. On several GPUs it is started by torchrun.

    \b
    Examples:
      slidescreen-train fit C-NMC/fold_0 C-NMC/fold_1 --out bundle
      torchrun --nproc-per-node 2 --no-python slidescreen-train fit CELLS --out bundle
    """
    from train.trainer.distributed import joined

    compute = compute_from(given)
    recipe = recipe_from(overrides_from(given), given["init"])
    with joined(compute.value.device, recipe.batch_size) as processes:
        if processes.is_first:
            console.note(compute.reason)
        device = processes.device(compute.value.device)
        run = _prepared(given, recipe, replace(compute.value, device=device), processes)
        if processes.is_first:
            _trained(run, given)
        elif not given["export_only"]:
            deque(run.epochs(), maxlen=0)


def _trained(run: Run, given: Mapping[str, Any]) -> None:
    """Train, show it, and write the bundle."""
    console.parts(run)
    if given["export_only"]:
        _publish(run)
        return
    with (
        console.training(run) as progress,
        experiment_log(given["log_to"], run) as log,
    ):
        try:
            for event in run.epochs():
                progress(event)
                log(event)
        except KeyboardInterrupt:
            _publish(run)
            raise
    _publish(run)


@cli.command()
@data_options
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Other cells: say what CELLS share with them.",
)
@click.option(
    "--decoder",
    type=click.Choice(["none", AUTO, *decoder_names()]),
    default="auto",
    show_default=True,
    help="Decode every cell to find bad ones; none: do not.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(**given: Any) -> None:
    """
    Say what is in CELLS and what would leak; exit with 1 if --against finds any leak.

    \b
    Example:
      slidescreen-train check C-NMC/fold_0 --against C-NMC/fold_2
    """
    from train.data.leak_check import check_cells

    other = cells_named(given["against"], given)
    report = check_cells(cells_from(given), other, given["decoder"])
    if given["as_json"]:
        click.echo(json.dumps(report.record(), indent=2))
    else:
        console.check(report)
    if report.shared:
        raise click.exceptions.Exit(MENDABLE)


@cli.command()
@data_options
@click.option("--out", type=PATH, required=True, help="Folder of the bundles and the table.")
@click.option(
    "--models",
    default="efficientnet_b3",
    show_default=True,
    metavar="A,B,...",
    help="timm's names.",
)
@click.option(
    "--fold",
    "fold_list",
    default="0",
    show_default=True,
    metavar="0,1,...",
    help="Parts to hold out in turn: 0,1,2,3,4 is five-fold cross-validation.",
)
@click.option(
    "--seeds", default="0", show_default=True, metavar="0,1,...", help="Seeds to repeat with."
)
@click.option(
    "--init",
    default="imagenet",
    show_default=True,
    metavar="WHAT",
    help="Start, as for fit; MODEL=WHAT for one model, several separated by semicolons.",
)
@recipe_options
@click.option("--positive", help="The class a screen looks for.  [default: all, if there is one]")
@compute_options
def sweep(**given: Any) -> None:
    """
    Train every model on every fold with every seed, and tabulate them beside the paper.

    What is done is not done again: a sweep that was killed goes on. A model that cannot be had
    is a row that says why.

    \b
    Example:
      slidescreen-train sweep CELLS --out sweep --models resnet50,efficientnet_b3
    """
    from train.sweep import plan, swept, write_table

    compute = compute_from(given)
    cells = cells_from(given)
    runs = plan(given["models"], given["fold_list"], given["seeds"], given["init"])
    options = fit_options_from(given, compute.value, cells)
    rows = []
    asked = overrides_from(given)
    recipes = {run: recipe_from(replace(asked, architecture=run.model), run.init) for run in runs}
    for row in swept(recipes, cells, options):
        rows.append(row)
        console.note(str(row))
        write_table(given["out"] / "sweep.csv", rows)
    console.sweep(rows, RECIPES[given["recipe"]])


def _prepared(
    given: Mapping[str, Any], recipe: Recipe, compute: Compute, processes: Processes
) -> Run:
    """Build the run that ``fit``'s options describe."""
    from train.data.holdout import parts_of
    from train.data.splits import Fold
    from train.fit import prepared_run

    cells = cells_from(given)
    options = replace(fit_options_from(given, compute, cells), processes=processes)
    apart = cells_named(given["held_out"], given)
    fold = Fold(recipe.folds, options.fold, options.split_seed)
    parts = parts_of(cells, recipe.protocol, fold, apart)
    if given["restart"]:
        (options.state / "state.pt").unlink(missing_ok=True)
    return prepared_run(parts, recipe, options)


def _publish(run: Run) -> None:
    """Write the bundle and show how good it is."""
    bundle, judged = run.publish()
    console.evaluation(judged)
    console.note(f"Bundle {bundle.sha256[:12]} in {bundle.folder}")

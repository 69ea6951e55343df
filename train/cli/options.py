"""The command line's options, shared by commands, and the values they make."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engines.errors import UserError
from engines.registry import AUTO, decoder_names
from engines.sources.names import CNMC_NAME
from engines.sources.options import SourceOptions
from train.cli.experiment_logs import LOGS
from train.data.labelled_cells import LabelledCell, limited, open_labelled
from train.data.reviewed_cells import open_reviewed
from train.recipe import RECIPES
from train.recipe_overrides import NORMS, RecipeOverrides

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engines.registry import Choice
    from train.compute import Compute
    from train.fit import FitOptions

__all__ = [
    "cells_from",
    "cells_named",
    "compute_from",
    "compute_options",
    "data_options",
    "fit_options",
    "fit_options_from",
    "optional_data_options",
    "overrides_from",
    "parsed_pairs",
    "recipe_options",
    "require_new_folder",
    "review_option",
]

EXISTING = click.Path(path_type=Path, exists=True)
SOURCE = click.Path(path_type=Path)  # a pattern or a URL, too: looked for when it is opened
LABELS = (
    click.option("--subject", default=CNMC_NAME.pattern, show_default=True, metavar="REGEX",
                 help="Finds whose cell it is in its path: a group named subject."),
    click.option("--column", "columns", multiple=True, metavar="ROLE=NAME",
                 help="What a table calls its column of path, label, image, x, y, width or height; "
                      "repeat for more. Without a NAME there is no such column."),
    click.option("--limit", type=click.IntRange(min=2), metavar="N",
                 help="Use N cells only, spread over all of them: for a quick try."),
)  # fmt: skip


def data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that reads labelled cells."""
    return _with(command, click.argument("cells", nargs=-1, required=True, type=SOURCE), *LABELS)


def optional_data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that reads labelled cells if it is given any."""
    return _with(command, click.argument("cells", nargs=-1, type=SOURCE), *LABELS)


def review_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option of commands that judge cells whose classes a person gave in a report."""
    return _with(
        command,
        click.option("--review", type=EXISTING, metavar="FILE",
                     help="A review saved from a report (review.csv): its cells and classes; CELLS "
                          "is then the folder that was screened."),
    )  # fmt: skip


def compute_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that runs a network."""
    return _with(
        command,
        click.option("--device", default="auto", show_default=True,
                     help="auto, cpu, cuda, cuda:N."),
        click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto",
                     show_default=True, help="Of forward passes; final figures are always fp32."),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads of torch."),
        click.option("--decoder", type=click.Choice([AUTO, *decoder_names()]), default="auto",
                     show_default=True, help="Which decoder reads the cells."),
    )  # fmt: skip


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that change a recipe."""
    return _with(
        command,
        click.option("--recipe", type=click.Choice(list(RECIPES)), default="subject",
                     show_default=True, help="subject: honest; paper: as arXiv 2508.06535."),
        click.option("--epochs", type=click.IntRange(min=1),
                     help="Instead of the recipe's; its phases keep their shares."),
        click.option("--batch-size", type=click.IntRange(min=2), help="Cells per step."),
        click.option("--samples-per-class", type=click.IntRange(min=1),
                     help="Cells shown per epoch and class.  [default: the recipe's, at most four "
                          "times as many as there are on average; with --limit, as many]"),
        click.option("--img-size", type=click.IntRange(min=32), help="Side of the model's input."),
        click.option("--crop-pct", type=click.FloatRange(0, 1, min_open=True),
                     help="Show the network this share of a crop's sides, the middle; as timm's.  "
                          "[default: as the start was trained, or all]"),
        click.option("--view", type=click.IntRange(min=32),
                     help="Side of the middle of crops that phases with a view train on."),
        click.option("--lr", type=click.FloatRange(min=0, min_open=True),
                     help="Learning rate of the first phase; later phases keep their ratio to it."),
        click.option("--freeze", type=click.IntRange(min=0),
                     help="Keep the stem and this many stages as they are."),
        click.option("--model-ema-decay", "ema_decay", type=click.FloatRange(0, 1, max_open=True),
                     help="Decay of the averaged weights; 0: none."),
        click.option("--mixup", type=click.FloatRange(min=0), metavar="ALPHA",
                     help="Blend pairs of cells and their labels; 0: none."),
        click.option("--mixstyle", type=click.FloatRange(0, 1), metavar="SHARE",
                     help="Cells that take on another's style, inside the network; 0: none."),
        click.option("--class-weights", is_flag=True, help="Weigh the loss by class."),
        click.option("--augment", "custom_augment", metavar="MODULE:FUNCTION",
                     help="Your own augmentation instead of the recipe's: a function that takes "
                          "and returns a batch of crops, (N, V, V, 3) uint8 RGB."),
        click.option("--no-aug", is_flag=True,
                     help="No augmentation, every cell once per epoch: the paper's ablation."),
        click.option("--model-kwargs", "model_args", multiple=True, metavar="KEY=VALUE",
                     callback=parsed_pairs,
                     help="For timm.create_model; VALUE is JSON or text. Goes into the bundle."),
        click.option("--norm", type=click.Choice(list(NORMS)),
                     help="Mean and spread of inputs; half: 0.5 and 0.5.  [default: as the start "
                          "was trained, or imagenet]"),
        click.option("--folds", type=click.IntRange(min=2), help="Parts; one is held out."),
        click.option("--split-seed", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Another number, another split into parts."),
    )  # fmt: skip


def fit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of ``fit`` alone."""
    return _with(
        command,
        click.option("--out", type=click.Path(path_type=Path), required=True,
                     help="The bundle's folder."),
        click.option("--model", "architecture", help="timm's name.  [default: efficientnet_b3]"),
        click.option("--init", default="imagenet", show_default=True, metavar="WHAT",
                     help="Start: imagenet (a download), lite2 (B3 widened from EfficientNet-"
                          "Lite2, a Python package), scratch, a bundle or a file of weights, or "
                          "the mean of several of these two, separated by commas."),
        click.option("--fold", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Which part is held out."),
        click.option("--held-out", multiple=True, type=SOURCE,
                     help="Hold out these cells instead of a part of CELLS."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
                     help="Of everything random but the split."),
        click.option("--positive",
                     help="The class a screen looks for.  [default: all, if there is one]"),
        click.option("--data", "data_name", default="", metavar="TEXT",
                     help="What the model card says of the data: name, source, licence."),
        click.option("--backgrounds", type=click.Path(path_type=Path, exists=True, file_okay=False),
                     metavar="FOLDER",
                     help="Smear fields at the crops' magnification: pieces of them are put behind "
                          "a third of the cells that were cut out of theirs."),
        click.option("--torchcompile", is_flag=True,
                     help="Compile first: minutes, then faster steps."),
        click.option("--log-to", type=click.Choice(list(LOGS)),
                     help="Log losses and figures: to OUT.training/tensorboard, or as wandb or "
                          "mlflow are set up; each needs its package."),
        click.option("--export-only", is_flag=True,
                     help="Train no more: write the best epoch so far."),
        click.option("--restart", is_flag=True, help="Begin anew where a training was left."),
    )  # fmt: skip


def cells_from(given: Mapping[str, Any]) -> tuple[LabelledCell, ...]:
    """List the cells that the data options name."""
    if given.get("review"):
        cells = open_reviewed(given["cells"], given["review"], given["subject"])
    else:
        cells = cells_named(given["cells"], given)
    return limited(cells, given["limit"])


def require_new_folder(folder: Path) -> None:
    """
    Refuse to write over anything.

    Raises:
        UserError: If the folder is there and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} is there already", hint="name another folder with --out, or remove it"
        )


def cells_named(sources: Sequence[Path], given: Mapping[str, Any]) -> tuple[LabelledCell, ...]:
    """List the cells of some sources, which may be none, read as the data options say."""
    return open_labelled(sources, given["subject"], SourceOptions(columns=given["columns"]))


def compute_from(given: Mapping[str, Any]) -> Choice[Compute]:
    """Choose where to compute, and set torch's threads."""
    import torch

    from train.compute import chosen_compute

    if given["threads"]:
        torch.set_num_threads(given["threads"])
    return chosen_compute(
        given["device"], given["precision"], compiled=bool(given.get("torchcompile"))
    )


def overrides_from(given: Mapping[str, Any]) -> RecipeOverrides:
    """Collect what the options ask of the recipe."""
    names = {field.name for field in fields(RecipeOverrides)}
    asked = {name: value for name, value in given.items() if name in names}
    return RecipeOverrides(**asked, limited=given["limit"] is not None)


def fit_options_from(
    given: Mapping[str, Any], compute: Compute, cells: Sequence[LabelledCell]
) -> FitOptions:
    """Collect what concerns the run and not the recipe."""
    from train.fit import FitOptions

    return FitOptions(
        out=given["out"],
        init=given["init"],
        compute=compute,
        positive=_positive(given, cells),
        decoder=given["decoder"],
        data=given.get("data_name", ""),
        backgrounds=given.get("backgrounds"),
        fold=given.get("fold", 0),
        seed=given.get("seed", 0),
        split_seed=given["split_seed"],
    )


def _positive(given: Mapping[str, Any], cells: Sequence[LabelledCell]) -> str | None:
    """Return the positive class asked for, or C-NMC's where there is one, or none."""
    if given["positive"]:
        return str(given["positive"])
    return "all" if any(cell.label == "all" for cell in cells) else None


def parsed_pairs(
    _context: click.Context, _option: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, Any]:
    """Parse KEY=VALUE pairs, the values as JSON where they are."""
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE")
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            parsed[key] = value
    return parsed


def _with(
    command: Callable[..., Any], *options: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """Apply decorators so that help shows them in this order."""
    for option in reversed(options):
        command = option(command)
    return command

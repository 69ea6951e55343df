"""``slidescreen-train evaluate | calibrate``: the commands that take a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from train.cli import console
from train.cli.options import (
    cells_from,
    cells_named,
    compute_from,
    compute_options,
    data_options,
    review_option,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.models.bundle import ModelBundle
    from train.compute import Compute
    from train.data.labelled_cells import LabelledCell

__all__ = ["calibrate", "evaluate"]

PATH = click.Path(path_type=Path)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@data_options
@review_option
@click.option("--unseen", is_flag=True, help="Leave out subjects that the model was trained on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--tta", is_flag=True, help="Take the mean over 8 flips and turns: 8 times the work.")
@click.option("--plots", type=PATH, metavar="FOLDER", help="Draw confusion, ROC, reliability.")
@compute_options
def evaluate(**given: Any) -> None:
    """
    Judge a BUNDLE on labelled CELLS, each figure with its interval.

    \b
    Example:
      slidescreen-train evaluate bundle C-NMC/fold_2
    """
    from engines.models.bundle import ModelBundle
    from train.evaluation.evaluate import evaluated_bundle, unseen_by

    compute = compute_from(given)
    bundle = ModelBundle.load(given["bundle"])
    cells = cells_from(given)
    if given["unseen"]:
        cells = unseen_by(bundle, cells)
    judged = evaluated_bundle(
        bundle, cells, compute.value, decoder=given["decoder"], tta=given["tta"]
    )
    if given["plots"]:
        from train.evaluation.plots import draw_plots

        draw_plots(given["plots"], judged)
    if given["as_json"]:
        click.echo(json.dumps(judged.record(), indent=2))
    else:
        console.note(compute.reason)
        console.evaluation(judged)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@data_options
@review_option
@click.option(
    "--training",
    multiple=True,
    type=click.Path(path_type=Path),
    help="More cells that the model was trained on; they say where training lies.",
)
@click.option(
    "--img-size", type=click.IntRange(min=32), help="Give the model an input of this side."
)
@click.option(
    "--crop-pct",
    type=click.FloatRange(0, 1, min_open=True),
    help="Show it this share of a crop's sides, the middle, from now on.",
)
@compute_options
def calibrate(**given: Any) -> None:
    """
    Fit how far to trust a BUNDLE's scores on labelled CELLS, and write it into the BUNDLE.

    Cells of subjects that the bundle says it was trained on tell where training lies; the others
    tell how often the model is right and what is usual. Its hash changes: runs begun with it
    as it was do not go on. With another input (--img-size, --crop-pct) temperature, threshold,
    half precision's exceptions, figures, plots and the card are made anew, too.

    \b
    Example:
      slidescreen-train calibrate bundle C-NMC/fold_0 C-NMC/fold_2
      slidescreen-train calibrate bundle C-NMC/fold_0 --img-size 128 --crop-pct 0.5689
      slidescreen-train calibrate bundle cells --review review.csv
    """
    from engines.models.bundle import ModelBundle
    from train.evaluation.uncertainty import recalibrated_bundle

    compute = compute_from(given)
    console.note(compute.reason)
    bundle = ModelBundle.load(given["bundle"])
    training = cells_named(given["training"], given)
    cells = cells_from(given)
    if given["img_size"] or given["crop_pct"]:
        if training:
            raise click.UsageError("--training does not go with another input: CELLS say it all")
        _give_input(bundle, cells, compute.value, given)
        return
    bundle, found = recalibrated_bundle(bundle, cells, training, compute.value, given["decoder"])
    console.limits(found)
    _renew_card(bundle)
    console.note(f"Bundle {bundle.sha256[:12]} in {bundle.folder}")


def _give_input(
    bundle: ModelBundle,
    cells: Sequence[LabelledCell],
    compute: Compute,
    given: Mapping[str, Any],
) -> None:
    """Write a bundle anew for the input that the options name."""
    from train.export.bundle_writer import bundle_with_input

    side = given["img_size"]
    expected = replace(
        bundle.input,
        height=side or bundle.input.height,
        width=side or bundle.input.width,
        crop_pct=given["crop_pct"] or bundle.input.crop_pct,
    )
    bundle, judged = bundle_with_input(bundle, expected, cells, compute, given["decoder"])
    console.evaluation(judged)
    console.note(f"Bundle {bundle.sha256[:12]} in {bundle.folder}")


def _renew_card(bundle: ModelBundle) -> None:
    """Let the bundle's card say what was measured, if it has one."""
    from engines.files import whole_file
    from train.export.model_card import with_trust_section

    file = bundle.folder / "README.md"
    if not file.exists():
        return
    text = with_trust_section(file.read_text(encoding="utf-8"), bundle)
    with whole_file(file) as scratch:
        scratch.write_text(text, encoding="utf-8")

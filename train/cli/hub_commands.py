"""``slidescreen-train import | publish``: models from elsewhere, and bundles for others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from train.cli import console
from train.cli.options import (
    cells_named,
    compute_from,
    compute_options,
    optional_data_options,
    parsed_pairs,
    require_new_folder,
)
from train.data.labelled_cells import limited
from train.recipe_overrides import NORMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.models.bundle import ModelBundle
    from train.export.imported import Imported

__all__ = ["import_model", "publish"]

EXISTING = click.Path(path_type=Path, exists=True)


@click.command("import")
@click.argument("origin")
@optional_data_options
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The bundle's folder.")
@click.option("--classes", metavar="A,B,...", help="Names of the classes, in the logits' order.")
@click.option("--positive", help="The class a screen looks for.  [default: none]")
@click.option("--model", "architecture", help="timm's name, where the model does not say it.")
@click.option(
    "--model-kwargs",
    "model_args",
    multiple=True,
    metavar="KEY=VALUE",
    callback=parsed_pairs,
    help="For timm.create_model; VALUE is JSON or text.",
)
@click.option(
    "--img-size", type=click.IntRange(min=32), help="Side of its input.  [default: as it says]"
)
@click.option(
    "--crop-pct",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Show it this share of a crop's sides, the middle.",
)
@click.option(
    "--norm",
    type=click.Choice(list(NORMS)),
    help="Mean and spread of inputs.  [default: as it says]",
)
@click.option(
    "--training",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Cells that it was trained on.",
)
@click.option("--data", "data_name", default="", metavar="TEXT", help="What the card says of data.")
@compute_options
def import_model(**given: Any) -> None:
    """
    Make a bundle of ORIGIN, a timm model that was trained elsewhere.

    ORIGIN is a file of weights (.safetensors or .pth), a folder as timm's save_for_hf writes it
    (local-dir:PATH), or a model of the hub (hf-hub:OWNER/MODEL). A bundle that somebody published
    is copied as it is. With labelled CELLS of people whom the model does not know, it is
    calibrated and judged; with --training, too, how far to trust it is measured. Without CELLS
    its probabilities are as it gives them.

    \b
    Example:
      slidescreen-train import model.pth CELLS --model resnet50 --classes all,hem \\
        --positive all --out bundle
    """
    from train.export.imported import place_of

    place = place_of(given["origin"])
    require_new_folder(given["out"])
    if (place / "screening.json").is_file():
        bundle = _copied(place, given["out"])
    else:
        bundle = _made(place, given)
    console.note(f"Bundle {bundle.sha256[:12]} in {bundle.folder}")


@click.command()
@click.argument("bundle", type=EXISTING)
@click.argument("name", metavar="hf:OWNER/MODEL")
@click.option("--private", is_flag=True, help="Hide a new model from others.")
def publish(bundle: Path, name: str, *, private: bool) -> None:
    """
    Push BUNDLE to a model hub, where plain timm and `slidescreen-train import` find it.

    The hub is Hugging Face's, or what HF_ENDPOINT names; log in with `hf auth login` or set
    HF_TOKEN first.

    \b
    Example:
      slidescreen-train publish bundle hf:my-lab/blasts --private
    """
    from train.export.hub import pushed

    if not name.startswith("hf:"):
        raise click.BadParameter(f"{name!r} does not begin with hf:", param_hint="hf:OWNER/MODEL")
    console.note(f"Published: {pushed(bundle, name.removeprefix('hf:'), private=private)}")


def _copied(place: Path, out: Path) -> ModelBundle:
    """Copy a bundle, checked whole before and after."""
    from engines.models.bundle import ModelBundle

    ModelBundle.load(place)
    shutil.copytree(place, out, dirs_exist_ok=True)
    return ModelBundle.load(out)


def _made(place: Path, given: Mapping[str, Any]) -> ModelBundle:
    """Build the network, judge it if there are cells, and write the bundle."""
    from train.export.imported import ImportAsked, imported_network

    if not given["classes"]:
        raise click.UsageError("--classes is needed: what the model's outputs mean")
    classes = tuple(name.strip() for name in given["classes"].split(","))
    if given["positive"] is not None and given["positive"] not in classes:
        raise click.BadParameter(f"{given['positive']!r} is not among {', '.join(classes)}")
    network = imported_network(
        ImportAsked(
            place=place,
            classes=classes,
            architecture=given["architecture"],
            model_args=given["model_args"],
            img_size=given["img_size"],
            crop_pct=given["crop_pct"],
            norm=NORMS[given["norm"]] if given["norm"] else None,
        )
    )
    return _written(network, classes, given)


def _written(imported: Imported, classes: tuple[str, ...], given: Mapping[str, Any]) -> ModelBundle:
    """Write the bundle, calibrated where labelled cells were given."""
    from train.export.import_writer import ImportCells, write_imported

    compute = compute_from(given)
    named = (given["cells"], given["training"])
    cells, training = (cells_named(each, given) for each in named)
    bundle, judged = write_imported(
        given["out"],
        imported,
        (classes, given["positive"]),
        ImportCells(limited(cells, given["limit"]), training, compute.value, given["decoder"]),
        {"imported_from": given["origin"], "name": given["data_name"]},
    )
    if judged:
        console.evaluation(judged)
    else:
        console.note("Not calibrated: give labelled cells, or run `slidescreen-train calibrate`.")
    return bundle

"""``slidescreen-train fuse fit | apply``: slides by image and patient data."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from train.cli import console

if TYPE_CHECKING:
    from train.fusion.fuse import Fusion

__all__ = ["fuse"]

PATH = click.Path(path_type=Path)
WITHOUT = click.option(
    "--without",
    multiple=True,
    metavar="COLUMN",
    help="Leave out this meta_ column, such as a file number; repeat for more.",
)


@click.group()
def fuse() -> None:
    """
    Put what is known of a person beside what the model saw in the slide.

    No such data came with slidescreen: the code is proven on simulated people only, and what it
    gives is for research.

    \b
    Example:
      slidescreen-train fuse fit results labels.csv --positive leukaemia --out fusion.json
      slidescreen-train fuse apply new-results fusion.json > slides.csv
    """


@fuse.command()
@click.argument("results", type=PATH)
@click.argument("labels", type=PATH)
@click.option("--positive", required=True, help="The label whose probability is wanted.")
@click.option("--out", type=PATH, required=True, help="The JSON file to write.")
@WITHOUT
def fit(results: Path, labels: Path, positive: str, out: Path, without: tuple[str, ...]) -> None:
    """
    Fit a logistic regression over the slides of RESULTS, and judge it by person.

    RESULTS are of a manifest whose further columns (age, counts) became meta_ columns. LABELS has
    the columns slide, label and, where a person has several slides, person.

    \b
    Example:
      slidescreen-train fuse fit results labels.csv --positive leukaemia --out fusion.json
    """
    from train.fusion.fuse import fused, save_fusion
    from train.fusion.slides import read_labels, read_slides

    found = fused(read_slides(results, without), read_labels(labels, positive), positive)
    save_fusion(out, found)
    _print(found)
    console.note(f"Slide model in {out}")


@fuse.command()
@click.argument("results", type=PATH)
@click.argument("model", type=PATH)
@WITHOUT
def apply(results: Path, model: Path, without: tuple[str, ...]) -> None:
    """
    Print the probability of each slide of RESULTS by the slide MODEL, as CSV.

    \b
    Example:
      slidescreen-train fuse apply results fusion.json
    """
    from train.fusion.fuse import read_fusion
    from train.fusion.slides import read_slides

    slides = read_slides(results, without)
    fitted, positive = read_fusion(model, slides)
    chances = fitted.probabilities({**slides.image, **slides.patient})
    writer = csv.writer(sys.stdout)
    writer.writerow(["slide", f"prob_{positive}"])
    writer.writerows(zip(slides.names, (f"{c:.6f}" for c in chances.tolist()), strict=True))


def _print(found: Fusion) -> None:
    """Print how good it is, and whether patient data add anything."""
    click.echo(
        f"{found.slides} slides of {found.people} people, each judged by a model of other people; "
        "95% intervals by person"
    )
    encoder = found.model.encoder
    kinds = [f"{name} (numbers)" for name in encoder.numbers if name.startswith("meta_")]
    kinds += [f"{name} ({len(seen)} different words)" for name, seen in encoder.words.items()]
    click.echo(f"Patient data: {', '.join(kinds) or 'all empty'}")
    for name, words in (("auc", "AUC"), ("log_loss", "log loss"), ("brier", "Brier score")):
        gain = found.gain[name]
        verdict = "better" if gain.low > 0 else "worse" if gain.high < 0 else "no clear difference"
        click.echo(
            f"{words}: {found.figures[name]}; image alone {found.image_alone[name]}; "
            f"patient data: {verdict} ({gain.value:+.3f}, {gain.bounds()})"
        )

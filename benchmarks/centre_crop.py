"""
Which middle of a crop should the network see, and at which size?

A bundle's weights as they are, shown several middles of the cells of people that it was not trained
on, at several input sizes: AUC with its 95% interval over people, calibration error before any
calibration, the error of probabilities that each person gets at the temperature which the others
give, and what an image costs (float32 on OpenVINO, processor seconds, so that other work on the
machine counts little). The network's scale is kept where window and size keep their ratio.

    python benchmarks/centre_crop.py --show 450:224 256:128
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from material import parser
from ood import batches
from page import print_setting, print_table

from engines.backends import open_runtime
from engines.hardware.machine import usable_cores
from engines.metrics import Scored, intervals
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.runtime.base import DEFAULT_BATCH, RuntimeOptions
from train.data.decoded import decoded_cells
from train.data.labelled_cells import open_labelled
from train.evaluation.calibration import cross_fitted
from train.evaluation.evaluate import truth_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from train.data.labelled_cells import LabelledCell

FOLDERS = ("cnmc-fold0", "cnmc-fold2", "cnmc-more")
SIDE = 450  # of C-NMC's crops, in pixels
SHOWN = ("450:224", "352:176", "320:160", "288:144", "256:128", "224:112")
EVERY_SMALL = 50  # with --small, one cell in so many


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, default=DEFAULT_BUNDLE)
    arguments.add_argument("--show", nargs="+", default=SHOWN, metavar="WINDOW:SIZE")
    given = arguments.parse_args()
    bundle = ModelBundle.load(given.model)
    cells = open_labelled([f for name in FOLDERS if (f := given.cells / name).is_dir()])
    learned = bundle.data["training_subjects"]
    unseen = [cell for cell in cells if cell.subject not in learned]
    unseen = unseen[:: EVERY_SMALL if given.small else 1]
    with TemporaryDirectory() as cache:
        os.environ["SLIDESCREEN_CACHE"] = cache
        rows = [row(shown(bundle, *map(int, each.split(":"))), unseen) for each in given.show]
    people = len({cell.subject for cell in unseen})
    header = ("shown", "AUC", "ECE, raw", "ECE, calibrated", "weighted F1", "cells/s")
    title = f"{bundle.architecture} {bundle.sha256[:12]}, {len(unseen)} cells of {people} people"
    print_table(title, header, rows)
    print_setting(small=given.small)


def shown(bundle: ModelBundle, window: int, size: int) -> ModelBundle:
    """Return the bundle with another input, under a hash of its own."""
    changed = replace(bundle.input, height=size, width=size, crop_pct=window / SIDE)
    name = sha256(f"{bundle.sha256} {changed}".encode()).hexdigest()
    return replace(bundle, input=changed, sha256=name)


def row(bundle: ModelBundle, cells: Sequence[LabelledCell]) -> tuple[object, ...]:
    """Score the cells and judge."""
    decoded = decoded_cells(cells, bundle.input)
    runtime = open_runtime("openvino", bundle, RuntimeOptions(precision="fp32"))
    some = list(batches(decoded.pixels, DEFAULT_BATCH))
    list(runtime.stream(some[:4]))  # warms up
    began = time.process_time()
    logits = np.concatenate([scores.logits for scores in runtime.stream(some)])
    seconds = (time.process_time() - began) / usable_cores()
    found = judged(bundle, decoded.cells, logits)
    figures = [str(found[n]) for n in ("auc", "ece_uncalibrated", "ece", "weighted_f1")]
    window = round(bundle.input.crop_pct * SIDE)
    return (f"{window} at {bundle.input.height}", *figures, f"{len(logits) / seconds:.0f}")


def judged(
    bundle: ModelBundle, cells: Sequence[LabelledCell], logits: np.ndarray
) -> dict[str, object]:
    """Return every figure; temperature and threshold come from the other people."""
    subjects = np.array([cell.subject for cell in cells])
    positive = bundle.classes.index(str(bundle.positive))
    scored: Scored = cross_fitted(
        logits, truth_of(cells, bundle.classes), subjects, (bundle.classes, positive)
    )
    return dict(intervals(scored))


if __name__ == "__main__":
    main()

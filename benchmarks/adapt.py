"""
What helps a model in a new centre: colour, norm statistics, the prior, temperature, threshold?

No second centre with blasts is here, so its images are made: cells of people whom the default
model was not trained on, as another camera, stain or lens would show them, or laid on another
centre's smears. Half of the people are the new centre's cells to adapt on, the other half judge,
and are judged as they are, too: that is what an adaptation costs at home. Real cells of other
centres (PBC's, white cells of smear fields) hold no blasts: of them only how many are called
positive can be told, and none should be.

Without labels: ``colour`` scales each channel by the mean optical density (in the input's mean and
spread); ``norms`` moves batch norms' statistics to the new cells' by a share (AdaBN, Li et al.
2016; Schneider et al. 2020); ``prior`` re-estimates how common blasts are (EM, Saerens et al.
2002). With labels, of 20 cells (mean of 20 draws) or of all: ``temperature`` (Guo et al. 2017),
``threshold`` (Youden's), ``both``; and what ``slidescreen-train adapt`` does, which moves a part
only where people who were not fitted on are clearly better off.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from material import parser
from ood import pbc_cells, smear_crops
from page import print_setting, print_table
from perturbed import gained, laid_on, smears
from PIL import Image, ImageFilter

from engines.cells import OPTICAL
from engines.decode.geometry import placement
from engines.errors import UserError
from engines.image_quality import quality
from engines.metrics import Scored, figures
from engines.models.bundle import DEFAULT_BUNDLE, ModelBundle
from engines.models.serving_graph import ServingGraph, network_from_bundle
from engines.uncertainty import probabilities
from train.compute import Compute
from train.data.labelled_cells import open_labelled
from train.evaluation.adaptation import Refit, adaptation
from train.evaluation.calibration import OperatingPoint
from train.evaluation.evaluate import predictions, truth_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from engines.models.input import ModelInput
    from train.data.labelled_cells import LabelledCell

EACH, STRANGERS = 12, 30  # cells of a person; of a kind of strangers
FEW, DRAWS = 20, 20
SHARES = (0.1, 1.0)  # of norms' statistics taken from the new cells
KINDS = ("lymphocyte", "monocyte", "neutrophil", "ig")
WAYS = {
    "temperature": ("temperature",),
    "threshold": ("threshold",),
    "both": ("temperature", "threshold"),
}
CPU = Compute("cpu", half=False)
SHOWN = ("auc", "balanced_accuracy", "ece")


def stained(cell: Image.Image, red: float, green: float, blue: float) -> Image.Image:
    """Let the stain absorb more or less: optical density times a factor; black stays black."""
    pixels = np.asarray(cell)
    light = 255 * (np.maximum(pixels, 1) / 255) ** np.array([red, green, blue])
    return Image.fromarray(np.where(pixels.max(2, keepdims=True) > 1, light, 0).astype(np.uint8))


CENTRES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as at home": lambda cell: cell,
    "camera: red 1.2, blue 0.8": partial(gained, red=1.2, green=1.0, blue=0.8),
    "stain: 1.4, 1.1, 0.8": partial(stained, red=1.4, green=1.1, blue=0.8),
    "pale: 0.6": partial(stained, red=0.6, green=0.6, blue=0.6),
    "blurred by 3": lambda cell: cell.filter(ImageFilter.GaussianBlur(3)),
}


@dataclass(frozen=True)
class Model:
    """A network and what it expects, with the bundle whose operating point it uses."""

    bundle: ModelBundle
    network: nn.Module
    expected: ModelInput

    def logits(self, pixels: np.ndarray) -> np.ndarray:
        """Score cells."""
        return predictions(self.network, pixels, self.expected, CPU).logits

    @property
    def positive(self) -> int:
        """Number of the positive class."""
        return self.bundle.classes.index(str(self.bundle.positive))

    @property
    def point(self) -> OperatingPoint:
        """As it ships."""
        return OperatingPoint(self.bundle.temperature, self.bundle.threshold)

    def figures(
        self, logits: np.ndarray, truth: np.ndarray, point: OperatingPoint | None = None
    ) -> np.ndarray:
        """Return the figures that are shown."""
        point = point or self.point
        scored = Scored(
            self.bundle.classes, truth, probabilities(logits, point.temperature),
            probabilities(logits, 1.0), np.array([""] * len(truth)), self.positive, point.threshold,
        )  # fmt: skip
        found = figures(scored)
        return np.array([found[name] for name in SHOWN])


def recoloured(model: Model, pixels: np.ndarray) -> Model:
    """Scale the input's mean and spread so that mean optical densities are training's."""
    batches = torch.split(torch.from_numpy(pixels), 32)
    optical = torch.cat([quality(batch) for batch in batches]).numpy()[:, -len(OPTICAL) :]
    known = optical[~np.isnan(optical).any(1), :3].astype(float)
    assert model.bundle.trust is not None
    gain = 10 ** (known.mean(0) - model.bundle.trust.colours.mean[:3])
    now = model.expected
    mean, std = (tuple((np.array(v) / gain).tolist()) for v in (now.mean, now.std))
    return replace(model, expected=replace(model.expected, mean=mean, std=std))


def renormed(model: Model, pixels: np.ndarray, share: float) -> Model:
    """Move batch norms' statistics towards those of some cells."""
    network = network_from_bundle(model.bundle)
    graph = ServingGraph(network, model.expected)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [(m.running_mean.clone(), m.running_var.clone()) for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(pixels)))
    with torch.no_grad():
        for some in torch.split(order, 32):
            graph(torch.from_numpy(pixels[some]))
    for norm, (mean, variance) in zip(norms, before, strict=True):
        norm.running_mean.lerp_(mean, 1 - share)
        norm.running_var.lerp_(variance, 1 - share)
    return replace(model, network=network.eval())


def prior_shifted(model: Model, known: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Re-estimate the prior on *known* logits by EM, and move *logits* by it."""
    assert model.bundle.trust is not None
    before = np.bincount(model.bundle.trust.held_out.truth) / len(model.bundle.trust.held_out.truth)
    chances, prior = probabilities(known, model.point.temperature).astype(float), before
    for _ in range(200):
        posterior = chances * (prior / before)
        prior = (posterior / posterior.sum(1, keepdims=True)).mean(0)
    return logits + model.point.temperature * np.log(prior / before).astype(np.float32)


def drawn(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose a few cells, as many of each class."""
    own = [np.flatnonzero(truth == c) for c in np.unique(truth)]
    return np.concatenate([rng.choice(rows, FEW // len(own), replace=False) for rows in own])


Found = dict[str, list[np.ndarray]]  # by way to adapt: the figures here, and at home
Cells = tuple[list["LabelledCell"], np.ndarray, np.ndarray]  # their classes; which to adapt on


class Centre:
    """A centre's cells, scored by a model as it is and by those adapted to it."""

    def __init__(self, model: Model, pixels: np.ndarray, cells: Cells) -> None:
        """Score them."""
        self.model, (self.cells, self.truth, self.first) = model, cells
        self.pixels = pixels
        logits = model.logits(pixels)
        self.known, self.logits = logits[self.first], logits[~self.first]

    def without_labels(self, home: Centre) -> Found:
        """Return the figures of each way to adapt without labels: here, and at home."""
        both, known = (self, home), self.pixels[self.first]
        adapted = {"colour": recoloured(self.model, known)}
        adapted |= {f"norms, {share}": renormed(self.model, known, share) for share in SHARES}
        found = {
            name: [other.figures(other.logits(c.judging), c.judged) for c in both]
            for name, other in adapted.items()
        }
        shifted = [prior_shifted(self.model, self.known, c.logits) for c in both]
        figures_of = zip(shifted, both, strict=True)
        return found | {"prior": [self.model.figures(one, c.judged) for one, c in figures_of]}

    @property
    def judging(self) -> np.ndarray:
        """Pixels of the cells that judge."""
        return self.pixels[~self.first]

    @property
    def judged(self) -> np.ndarray:
        """Their classes."""
        return self.truth[~self.first]

    def as_it_is(self, home: Centre) -> Found:
        """Return the figures of the model that ships."""
        return {"as it is": [self.model.figures(c.logits, c.judged) for c in (self, home)]}

    def as_adapt(self, home: Centre) -> Found:
        """Return the figures at the point that ``slidescreen-train adapt`` finds."""
        some = [cell for cell, first in zip(self.cells, self.first, strict=True) if first]
        try:
            found = adaptation(self.model.bundle, some, self.known)
        except UserError:
            point, name = self.model.point, "adapt: nothing moved"
        else:
            point, name = found.point, f"adapt: {' and '.join(found.moved)}"
        return {name: [self.model.figures(c.logits, c.judged, point) for c in (self, home)]}

    def labelled(self, home: Centre) -> Found:
        """Fit the operating point on few labelled cells, and on all."""
        rng, known, found = np.random.default_rng(0), self.truth[self.first], {}
        draws = {
            f"{FEW} cells": [drawn(known, rng) for _ in range(DRAWS)],
            "all cells": [np.arange(len(known))],
        }
        for way, parts in WAYS.items():
            fit = Refit(self.model.bundle, parts)
            for name, rows in draws.items():
                points = [fit(self.known[r], known[r], self.model.positive) for r in rows]
                found[f"{way}, {name}"] = [
                    np.mean([c.model.figures(c.logits, c.judged, p) for p in points], 0)
                    for c in (self, home)
                ]
        return found


def shown(image: Image.Image, expected: ModelInput) -> np.ndarray:
    """Return a crop as the model sees it."""
    cell = np.asarray(image)
    window = Image.fromarray(cell[placement(*cell.shape[:2], expected).window.slices])
    size = (expected.width, expected.height)
    return np.asarray(window.resize(size, Image.Resampling.BICUBIC))


def people(folder: Path, bundle: ModelBundle, each: int) -> tuple[list[LabelledCell], np.ndarray]:
    """Choose cells of people not trained on; say which people are to adapt on."""
    sources = [folder / name for name in ("cnmc-fold0", "cnmc-fold2", "cnmc-more")]
    by_person = defaultdict(list)
    for cell in open_labelled(sources):
        if cell.subject.upper() not in {*bundle.training_subjects, "H3"}:
            by_person[cell.label, cell.subject].append(cell)
    kept = [c for own in by_person.values() for c in own[:: -(-len(own) // each)]]
    order = {key: number for number, key in enumerate(sorted(by_person))}
    return kept, np.array([order[cell.label, cell.subject] % 2 == 0 for cell in kept])


def strangers(folder: Path, expected: ModelInput, count: int) -> dict[str, np.ndarray]:
    """Return white cells of other centres, none a blast."""
    found = {f"PBC {kind}": pbc_cells(folder / "pbc", kind, expected, count) for kind in KINDS}
    crops = smear_crops(folder / "smear-fields", "WBC", expected)
    return found | {"smear fields WBC": crops[:: -(-len(crops) // count)]}


def called(model: Model, pixels: np.ndarray, logits: np.ndarray | None = None) -> float:
    """Return how many are called positive."""
    logits = model.logits(pixels) if logits is None else logits
    chances = probabilities(logits, model.point.temperature)
    return float((chances[:, model.positive] >= model.point.threshold).mean())


def stranger_row(model: Model, name: str, pixels: np.ndarray) -> tuple[str, ...]:
    """Say how many strangers are called positive by each way to adapt without labels."""
    logits = model.logits(pixels)
    shares = [called(model, pixels, logits), called(recoloured(model, pixels), pixels)]
    shares += [called(renormed(model, pixels, share), pixels) for share in SHARES]
    shares += [called(model, pixels, prior_shifted(model, logits, logits))]
    return (name, *(f"{share:.0%}" for share in shares))


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__)
    arguments.add_argument("--labelled", action="store_true", help="only ways that need labels")
    given = arguments.parse_args()
    bundle = ModelBundle.load(DEFAULT_BUNDLE)
    model = Model(bundle, network_from_bundle(bundle), bundle.input)
    cells, first = people(given.cells, bundle, 6 if given.small else EACH)
    truth = truth_of(cells, bundle.classes)
    images = [Image.open(cell.file).convert("RGB") for cell in cells]
    print(f"{bundle.sha256[:12]}: {first.sum()} cells to adapt on, {(~first).sum()} to judge")
    changes = {**CENTRES, "on another centre's smear": partial(laid_on, pieces=smears(given.cells))}
    rows, home = [], None
    for name, change in changes.items():
        pixels = np.stack([shown(change(image), bundle.input) for image in images])
        centre = Centre(model, pixels, (cells, truth, first))
        home = home or centre
        found = centre.as_it_is(home) | centre.labelled(home) | centre.as_adapt(home)
        if not given.labelled:
            found |= centre.without_labels(home)
        for way, (here, there) in found.items():
            rows.append((name, way, *(f"{v:.3f}" for v in here), *(f"{v:.3f}" for v in there)))
    header = ("centre", "adapted by", *SHOWN, *(f"home: {each}" for each in SHOWN))
    print_table("New centres, made of C-NMC's cells", header, rows)
    if given.labelled:
        print_setting(small=given.small)
        return
    strange = strangers(given.cells, bundle.input, 6 if given.small else STRANGERS)
    rows = [stranger_row(model, name, pixels) for name, pixels in strange.items()]
    header = ("cells", "as it is", "colour", *(f"norms, {share}" for share in SHARES), "prior")
    print_table("Called positive; none is", header, rows)
    print_setting(small=given.small)


if __name__ == "__main__":
    main()

"""
What a model knows of its own limits, fitted and measured: see ``engines.uncertainty``.

Legend: N cells, H x W pixels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torchvision.transforms.functional import gaussian_blur

from engines.cells import OPTICAL
from engines.errors import SourceError, UserError
from engines.image_quality import quality
from engines.models.bundle import with_trust
from engines.models.serving_graph import network_from_bundle
from engines.uncertainty import probabilities
from engines.uncertainty.conformal import Conformal, abstentions, guaranteed, measured_coverage
from engines.uncertainty.fitted import HeldOut, Trust
from engines.uncertainty.ood import ColourSpace, FeatureSpace
from train.compute import Compute
from train.data.decoded import decoded_cells
from train.evaluation.evaluate import BATCH, Predictions, predictions, truth_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput
    from train.data.decoded import DecodedCells
    from train.data.labelled_cells import LabelledCell

__all__ = [
    "Limits",
    "evenly_spread",
    "fitted_trust",
    "measured_limits",
    "ood_auroc",
    "recalibrated_bundle",
    "recalibrated_trust",
]

COVERAGE = 0.95  # that the card's figures are for; any other can be asked for
TRAINING_CELLS = 2000  # at most, to say where training lies
OOD_IMAGES = 100  # images of each kind, at most
BLUR = 3.0  # pixels, of a 224-pixel crop


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    How well a model knows its limits, measured on held-out subjects.

    Attributes:
        training_cells: Cells that say where training lies.
        held_out_cells: Cells that say what is usual.
        held_out_subjects: Of how many people.
        coverage: What sets are to hold.
        measured: What they hold, by class, each subject judged by the others; None for too few.
        guaranteed: What is certain for a new subject, by class.
        abstained: Share of held-out cells whose set is not one class.
        auroc: How often each kind of image that is no such cell lies farther out than a held-out
            cell.
    """

    training_cells: int
    held_out_cells: int
    held_out_subjects: int
    coverage: float
    measured: Mapping[str, float | None]
    guaranteed: Mapping[str, float]
    abstained: float
    auroc: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def fitted_trust(
    training: tuple[Predictions, DecodedCells],
    held_out: tuple[Predictions, DecodedCells],
    classes: Sequence[str],
) -> Trust:
    """Fit where training lies, and keep what held-out cells of known class are like."""
    learned, learned_cells = training
    features = FeatureSpace.fitted(learned.features, truth_of(learned_cells.cells, classes))
    colours = ColourSpace.fitted(_optical(learned_cells.pixels))
    return Trust(_held_out(*held_out, classes, (features, colours)), features, colours)


def measured_limits(
    trust: Trust,
    meaning: tuple[Sequence[str], float],
    counted: int,
    auroc: Mapping[str, float],
) -> Limits:
    """
    Measure how well the sets keep their promise.

    Args:
        trust: As fitted.
        meaning: The classes and the temperature.
        counted: Training cells that it was fitted on.
        auroc: See ``ood_auroc``.
    """
    held, (classes, temperature) = trust.held_out, meaning
    chances = probabilities(held.logits, temperature)
    measured = measured_coverage(chances, held.truth, held.subjects, COVERAGE)
    people = [len(np.unique(held.subjects[held.truth == c])) for c in range(len(classes))]
    sets = Conformal.fitted(chances, held.truth, held.subjects, COVERAGE).sets(chances)
    return Limits(
        training_cells=counted,
        held_out_cells=len(held.truth),
        held_out_subjects=len(np.unique(held.subjects)),
        coverage=COVERAGE,
        measured=dict(zip(classes, measured, strict=True)),
        guaranteed={
            name: guaranteed(COVERAGE, count) for name, count in zip(classes, people, strict=True)
        },
        abstained=float(abstentions(sets).mean()),
        auroc=dict(auroc),
    )


def ood_auroc(
    network: nn.Module,
    trust: Trust,
    cells_NHW3: NDArray[np.uint8],
    expected: ModelInput,
    compute: Compute,
) -> dict[str, float]:
    """Return how often images that are no such cells lie farther out than held-out cells."""
    usual = trust.held_out.distances
    some_NHW3 = cells_NHW3[:: -(-len(cells_NHW3) // OOD_IMAGES)]
    return {
        kind: _auroc(
            usual,
            trust.distances(
                predictions(network, pixels, expected, compute).features, _optical(pixels)
            ),
        )
        for kind, pixels in _ood_images(some_NHW3, expected.crop_pct).items()
    }


def recalibrated_bundle(
    bundle: ModelBundle,
    cells: Sequence[LabelledCell],
    training: Sequence[LabelledCell],
    compute: Compute,
    decoder: str = "auto",
) -> tuple[ModelBundle, Limits]:
    """
    Fit a bundle's trust data anew and write it into the bundle.

    Args:
        bundle: Its folder is written to; its hash changes.
        cells: Labelled cells; those of subjects that the bundle says it was trained on are taken
            for training cells, the others are held out.
        training: More cells that it was trained on. Without any, where training lies is kept.
        compute: Where.
        decoder: Which decoder reads the cells.

    Raises:
        SourceError: If no cell is held out.
        UserError: If nothing says where training lies.
    """
    known = set(bundle.data.get("training_subjects", ()))
    learned = [*training, *(cell for cell in cells if cell.subject in known)]
    unseen = [cell for cell in cells if cell.subject not in known]
    if not unseen:
        raise SourceError(
            "the model was trained on every one of these subjects",
            hint="give labelled cells of other subjects, too",
        )
    network = network_from_bundle(bundle)
    exact = Compute(compute.device, half=False)

    def predicted(
        cells: Sequence[LabelledCell], compute: Compute
    ) -> tuple[Predictions, DecodedCells]:
        decoded = decoded_cells(cells, bundle.input, decoder)
        return predictions(network, decoded.pixels, bundle.input, compute), decoded

    held_out = predicted(unseen, exact)
    if learned:
        some = predicted(evenly_spread(learned), compute)
        trust, counted = fitted_trust(some, held_out, bundle.classes), len(some[1].cells)
    else:
        trust, counted = recalibrated_trust(bundle, held_out)
    auroc = ood_auroc(network, trust, held_out[1].pixels, bundle.input, exact)
    found = measured_limits(trust, (bundle.classes, bundle.temperature), counted, auroc)
    return with_trust(bundle, trust, found.record()), found


def evenly_spread(cells: Sequence[LabelledCell]) -> Sequence[LabelledCell]:
    """Take at most TRAINING_CELLS, evenly."""
    return cells[:: -(-len(cells) // TRAINING_CELLS)]


def recalibrated_trust(
    bundle: ModelBundle, held_out: tuple[Predictions, DecodedCells]
) -> tuple[Trust, int]:
    """
    Keep where training lies; replace what is usual.

    Returns:
        The new trust data, and how many training cells the old ones were fitted on.

    Raises:
        UserError: If the bundle does not say where training lies.
    """
    if bundle.trust is None:
        raise UserError(
            "none of these cells is known to be one that the model was trained on",
            hint="name some with --training: they say where training lies",
        )
    features, colours = bundle.trust.features, bundle.trust.colours
    held = _held_out(*held_out, bundle.classes, (features, colours))
    return Trust(held, features, colours), int(bundle.data["trust"]["training_cells"])


def _held_out(
    predicted: Predictions,
    decoded: DecodedCells,
    classes: Sequence[str],
    spaces: tuple[FeatureSpace, ColourSpace],
) -> HeldOut:
    """Keep what held-out cells are like; of whom they are, only that it is the same person."""
    features, colours = spaces
    if not decoded.cells:
        raise SourceError("none of the held-out cells decodes")
    named = [cell.subject or f"cell {i}" for i, cell in enumerate(decoded.cells)]
    _, subjects = np.unique(named, return_inverse=True)
    return HeldOut(
        predicted.logits.astype(np.float32),
        truth_of(decoded.cells, classes).astype(np.int32),
        subjects.astype(np.int32),
        features.distances(predicted.features),
        colours.distances(_optical(decoded.pixels)),
    )


def _optical(pixels_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the colour columns of the cells' quality."""
    batches = torch.split(torch.from_numpy(pixels_NHW3), BATCH)
    return torch.cat([quality(batch) for batch in batches]).numpy()[:, -len(OPTICAL) :]


def _ood_images(pixels_NHW3: NDArray[np.uint8], crop_pct: float) -> dict[str, NDArray[np.uint8]]:
    """Make images that a screen may meet and that are no cells as they were trained on."""
    rng = np.random.default_rng(0)
    count, height, width, _ = pixels_NHW3.shape
    sigma = BLUR * height / crop_pct / 224
    nchw = torch.from_numpy(pixels_NHW3).permute(0, 3, 1, 2)
    blurred = gaussian_blur(nchw, [int(3 * sigma) * 2 + 1] * 2, [sigma] * 2)
    grey = np.linspace(0, 255, count).astype(np.uint8)[:, None, None, None]
    return {
        "blurred cells": blurred.permute(0, 2, 3, 1).contiguous().numpy(),
        "inverted cells": 255 - pixels_NHW3,
        "noise": rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8),
        "blank images": np.broadcast_to(grey, (count, height, width, 3)).copy(),
    }


def _auroc(usual: NDArray[np.float32], unusual: NDArray[np.float32]) -> float:
    """Return how often the unusual score higher, ties half."""
    truth = np.repeat([0, 1], [len(usual), len(unusual)])
    highest = np.finfo(np.float32).max
    scores = np.minimum(np.concatenate([usual, unusual]), highest)
    return float(roc_auc_score(truth, scores))

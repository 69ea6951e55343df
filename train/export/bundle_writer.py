"""From a trained network to a bundle: judged, calibrated, its limits measured, written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import SourceError
from engines.files import whole_file
from engines.models.serving_graph import network_from_bundle
from train.compute import Compute
from train.data.decoded import decoded_cells
from train.evaluation.calibration import THRESHOLD_RULE, cross_fitted, fitted_point
from train.evaluation.evaluate import evaluation, predictions, truth_of, unseen_by
from train.evaluation.plots import draw_plots
from train.evaluation.uncertainty import evenly_spread, fitted_trust, measured_limits, ood_auroc
from train.export.bundle_files import (
    NetworkSpec,
    OutputMeaning,
    as_shipped,
    write_bundle_files,
)
from train.export.half_precision import measured_half
from train.export.model_card import card_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput
    from engines.uncertainty.fitted import Trust
    from train.data.decoded import DecodedCells
    from train.data.labelled_cells import LabelledCell
    from train.evaluation.calibration import OperatingPoint
    from train.evaluation.evaluate import Evaluation, Predictions

__all__ = ["TrainedNetwork", "bundle_with_input", "write_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedNetwork:
    """
    A network that is to become a bundle, and the cells that say how good it is.

    Attributes:
        network: With the weights that are kept; in evaluation mode.
        spec: How timm builds it, and what it expects.
        classes: In the order of the logits.
        positive: The class a screen looks for, or None.
        training: Cells that it was trained on: they say where training lies. Without any, how far
            to trust it is not measured.
        held_out: Cells that it was not trained on, decoded at its input's size.
        compute: Where it runs; final figures are computed in float32 there.
        decoder: Which decoder reads the training cells.
        provenance: What the bundle says of how the network came about, ready for JSON.
        half: What half precisions left to float32 at another input, to be tried first.
        weights: As they are to be stored; None stores the network's, rounded: see ``as_shipped``.
    """

    network: nn.Module
    spec: NetworkSpec
    classes: tuple[str, ...]
    positive: str | None
    training: Sequence[LabelledCell]
    held_out: DecodedCells
    compute: Compute
    decoder: str
    provenance: Mapping[str, Any]
    half: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weights: Mapping[str, Tensor] | None = None

    @property
    def exact(self) -> Compute:
        """Where final figures are computed: in float32."""
        return Compute(self.compute.device, half=False)


def write_bundle(trained: TrainedNetwork, folder: Path) -> tuple[ModelBundle, Evaluation]:
    """
    Judge a network on its held-out cells, calibrate it, and write it with its plots and its card.

    Args:
        trained: The network.
        folder: Made if need be.
    """
    spec = trained.spec
    predicted = predictions(trained.network, trained.held_out.pixels, spec.input, trained.exact)
    judged, point = _judged(trained, predicted.logits)
    trust, limits = _trust(trained, predicted, point) if trained.training else (None, {})
    measured = {
        "threshold_rule": THRESHOLD_RULE if trained.positive else None,
        "evaluation": judged.record(),
    }
    data = {**trained.provenance, **measured, **limits}
    meaning = OutputMeaning(trained.classes, trained.positive, point, data)
    weights = trained.weights or as_shipped(trained.network.state_dict())
    bundle = write_bundle_files(folder, spec, weights, meaning, trust)
    bundle = measured_half(bundle, trained.held_out, trained.half)
    draw_plots(folder / "plots", judged)
    with whole_file(folder / "README.md") as scratch:
        scratch.write_text(card_text(bundle, judged), encoding="utf-8")
    return bundle, judged


def bundle_with_input(
    bundle: ModelBundle,
    expected: ModelInput,
    cells: Sequence[LabelledCell],
    compute: Compute,
    decoder: str = "auto",
) -> tuple[ModelBundle, Evaluation]:
    """
    Show a bundle's network another part of crops, or at another size, and write it anew.

    Weights stay. All that depends on the input is judged and fitted again, and the card rewritten.

    Args:
        bundle: Its folder is written to; its hash changes.
        expected: The new input.
        cells: Labelled cells; those of subjects that the bundle says it was trained on say where
            training lies, the others judge and calibrate.
        compute: Where.
        decoder: Which decoder reads the cells.

    Raises:
        SourceError: If either kind of cell is missing.
    """
    known = set(bundle.data.get("training_subjects", ()))
    learned = tuple(cell for cell in cells if cell.subject in known)
    unseen = unseen_by(bundle, cells)
    if not learned:
        raise SourceError(
            "none of these cells is of a subject that the model was trained on",
            hint="give some of those, too: they say where training lies",
        )
    before = bundle.input
    trained_at = {"img_size": before.height, "crop_pct": before.crop_pct}
    provenance = {
        "trained_at": trained_at,  # kept from the first change on
        **bundle.data,
        "held_out_subjects": sorted({cell.subject for cell in unseen}),
    }
    network = network_from_bundle(bundle)
    trained = TrainedNetwork(
        network=network,
        spec=NetworkSpec(bundle.architecture, bundle.model_args, expected),
        classes=bundle.classes,
        positive=bundle.positive,
        training=learned,
        held_out=decoded_cells(unseen, expected, decoder),
        compute=compute,
        decoder=decoder,
        provenance=provenance,
        half=bundle.half,
    )
    return write_bundle(trained, bundle.folder)


def _judged(
    trained: TrainedNetwork, logits_NC: NDArray[np.float32]
) -> tuple[Evaluation, OperatingPoint]:
    """Fit the operating point on all held-out cells, and judge by cross-fitting it."""
    cells, classes = trained.held_out.cells, trained.classes
    truth = truth_of(cells, classes)
    positive = classes.index(trained.positive) if trained.positive else None
    subjects = np.array([cell.subject for cell in cells])
    scored = cross_fitted(logits_NC, truth, subjects, (classes, positive))
    judged = evaluation(scored, faults=len(trained.held_out.faults))
    return judged, fitted_point(logits_NC, truth, positive)


def _trust(
    trained: TrainedNetwork, predicted: Predictions, point: OperatingPoint
) -> tuple[Trust, dict[str, Any]]:
    """Fit how far to trust the scores, with some training cells, and measure how well it works."""
    expected, network = trained.spec.input, trained.network
    decoded = decoded_cells(evenly_spread(trained.training), expected, trained.decoder)
    learned = predictions(network, decoded.pixels, expected, trained.compute)
    trust = fitted_trust((learned, decoded), (predicted, trained.held_out), trained.classes)
    auroc = ood_auroc(network, trust, trained.held_out.pixels, expected, trained.exact)
    meaning = (trained.classes, point.temperature)
    limits = measured_limits(trust, meaning, len(decoded.cells), auroc)
    return trust, {"trust": limits.record()}

"""A bundle adapted to another centre's labelled cells: measured first, then written."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.files import whole_file
from engines.models.bundle import ModelBundle, with_operating_point, with_trust
from engines.models.serving_graph import network_from_bundle
from train.compute import Compute
from train.data.decoded import decoded_cells
from train.evaluation.adaptation import adaptation, require_adaptable
from train.evaluation.calibration import THRESHOLD_RULE
from train.evaluation.evaluate import evaluation, predictions
from train.evaluation.plots import draw_plots
from train.evaluation.uncertainty import measured_limits, ood_auroc, recalibrated_trust
from train.export.model_card import card_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from engines.uncertainty.fitted import Trust
    from train.data.decoded import DecodedCells
    from train.data.labelled_cells import LabelledCell
    from train.evaluation.adaptation import Adaptation
    from train.evaluation.evaluate import Evaluation
    from train.evaluation.uncertainty import Limits

__all__ = ["Adapted", "adapted_bundle"]

BUNDLE_SUFFIXES = (".json", ".safetensors")  # plots and card are made anew


@dataclass(frozen=True, slots=True)
class Adapted:
    """
    A bundle for another centre.

    Attributes:
        bundle: As written.
        found: What adapting changed, there and at home.
        judged: How good it is on the centre's cells, each person judged by the others.
        limits: How well it knows its limits there.
    """

    bundle: ModelBundle
    found: Adaptation
    judged: Evaluation
    limits: Limits


def adapted_bundle(
    bundle: ModelBundle,
    cells: Sequence[LabelledCell],
    out: Path,
    compute: Compute,
    decoder: str = "auto",
) -> Adapted:
    """
    Adapt a bundle to labelled cells, and write it as a new one.

    Temperature and threshold are fitted to the cells where that is worth it; the cells become the
    held-out cells, so that sets, distances and corrected shares are of the new centre. Weights, and
    where training lies, stay.

    Args:
        bundle: Not changed.
        cells: Of the new centre; those of people that the bundle was trained on are left out.
        out: The new bundle's folder, not there yet; written as a whole.
        compute: Where. Figures are computed in float32.
        decoder: Which decoder reads the cells.

    Raises:
        UserError: If the bundle does not hold its held-out cells, was adapted before, or serves
            these cells as well as can be shown; then nothing is written.
        SourceError: If the cells are not of two people of each class at least.
    """
    require_adaptable(bundle)
    exact, network = Compute(compute.device, half=False), network_from_bundle(bundle)
    decoded = decoded_cells(_unknown(bundle, cells), bundle.input, decoder)
    predicted = predictions(network, decoded.pixels, bundle.input, exact)
    found = adaptation(bundle, decoded.cells, predicted.logits)
    judged = evaluation(found.scored, faults=len(decoded.faults))
    trust, counted = recalibrated_trust(bundle, (predicted, decoded))
    auroc = ood_auroc(network, trust, decoded.pixels, bundle.input, exact)
    limits = measured_limits(trust, (bundle.classes, found.point.temperature), counted, auroc)
    data = _data(bundle, decoded, found, judged)
    with TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.") as scratch:
        made = Path(scratch) / out.name
        _write(bundle, made, data, (found, judged, trust, limits))
        made.rename(out)
    return Adapted(ModelBundle.load(out), found, judged, limits)


def _unknown(bundle: ModelBundle, cells: Sequence[LabelledCell]) -> list[LabelledCell]:
    """Leave out the cells of people whom the model was trained on."""
    left = [cell for cell in cells if cell.subject.upper() not in bundle.training_subjects]
    if not left:
        raise SourceError(
            "the model was trained on every one of these subjects",
            hint="give labelled cells of the new centre; --subject says whose they are",
        )
    return left


def _data(
    bundle: ModelBundle, decoded: DecodedCells, found: Adaptation, judged: Evaluation
) -> dict[str, Any]:
    """Return the new bundle's provenance: the old one's, and what was done since."""
    return {
        **bundle.data,
        "held_out_subjects": sorted({cell.subject for cell in decoded.cells}),
        "threshold_rule": _rule(bundle, found),
        "evaluation": judged.record(),
        "adapted": {
            "from": bundle.sha256,
            "moved": list(found.moved),
            "here": found.here.record(),
            "home": found.home.record(),
        },
    }


def _rule(bundle: ModelBundle, found: Adaptation) -> str | None:
    """Say where the threshold comes from."""
    if "threshold" in found.moved:
        return THRESHOLD_RULE
    return bundle.data.get("threshold_rule")


def _write(
    bundle: ModelBundle,
    folder: Path,
    data: dict[str, Any],
    parts: tuple[Adaptation, Evaluation, Trust, Limits],
) -> None:
    """Write the bundle with its plots and its card."""
    found, judged, trust, limits = parts
    folder.mkdir()
    for file in bundle.folder.iterdir():
        if file.suffix in BUNDLE_SUFFIXES:
            shutil.copyfile(file, folder / file.name)
    made = ModelBundle.load(folder)
    made = with_operating_point(made, found.point.temperature, found.point.threshold, data)
    made = with_trust(made, trust, limits.record())
    draw_plots(folder / "plots", judged)
    with whole_file(folder / "README.md") as scratch:
        scratch.write_text(card_text(made, judged), encoding="utf-8")

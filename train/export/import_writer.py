"""A bundle of an imported network: calibrated where there are labelled cells, and saying so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.errors import UserError
from engines.files import whole_file
from train.data.decoded import decoded_cells
from train.evaluation.calibration import OperatingPoint
from train.export.bundle_files import OutputMeaning, write_bundle_files
from train.export.bundle_writer import TrainedNetwork, write_bundle
from train.export.model_card import card_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engines.models.bundle import ModelBundle
    from train.compute import Compute
    from train.data.labelled_cells import LabelledCell
    from train.evaluation.evaluate import Evaluation
    from train.export.imported import Imported

__all__ = ["ImportCells", "write_imported"]

UNCALIBRATED = OperatingPoint(temperature=1.0, threshold=0.5)
UNCALIBRATED_RULE = "not calibrated; half, for want of labelled cells"


@dataclass(frozen=True, slots=True)
class ImportCells:
    """
    Labelled cells to calibrate and judge by.

    Attributes:
        held_out: Of people whom the model does not know; may be none.
        training: That it was trained on; may be none.
        compute: Where to run it.
        decoder: Which decoder reads them.
    """

    held_out: Sequence[LabelledCell]
    training: Sequence[LabelledCell]
    compute: Compute
    decoder: str


def write_imported(
    folder: Path,
    imported: Imported,
    named: tuple[tuple[str, ...], str | None],
    cells: ImportCells,
    origin: Mapping[str, Any],
) -> tuple[ModelBundle, Evaluation | None]:
    """
    Write the bundle of a network that was trained elsewhere.

    Args:
        folder: Made if need be.
        imported: The network.
        named: Its classes, and the one that a screen looks for, if any.
        cells: Labelled cells, if there are any.
        origin: ``imported_from`` and ``name`` of the data, for the bundle's record.

    Returns:
        The bundle, and how good it is on the held-out cells; None without any.

    Raises:
        UserError: If the cells' classes are not the model's.
    """
    classes, positive = named
    provenance = {
        **origin,
        "criterion": "imported",
        "training_subjects": sorted({cell.subject for cell in cells.training} - {""}),
        "held_out_subjects": sorted({cell.subject for cell in cells.held_out}),
    }
    if not cells.held_out:
        return _uncalibrated(folder, imported, named, provenance), None
    _check_labels(cells, classes)
    trained = TrainedNetwork(
        network=imported.network,
        spec=imported.spec,
        classes=classes,
        positive=positive,
        training=cells.training,
        held_out=decoded_cells(cells.held_out, imported.spec.input, cells.decoder),
        compute=cells.compute,
        decoder=cells.decoder,
        provenance=provenance,
        weights=imported.weights,
    )
    return write_bundle(trained, folder)


def _uncalibrated(
    folder: Path,
    imported: Imported,
    named: tuple[tuple[str, ...], str | None],
    provenance: Mapping[str, Any],
) -> ModelBundle:
    """Write a bundle whose probabilities are as the network gives them."""
    classes, positive = named
    point = OperatingPoint(UNCALIBRATED.temperature, UNCALIBRATED.threshold if positive else None)
    data = {**provenance, "threshold_rule": UNCALIBRATED_RULE if positive else None}
    meaning = OutputMeaning(classes, positive, point, data)
    bundle = write_bundle_files(folder, imported.spec, imported.weights, meaning)
    with whole_file(folder / "README.md") as scratch:
        scratch.write_text(card_text(bundle, None), encoding="utf-8")
    return bundle


def _check_labels(cells: ImportCells, classes: tuple[str, ...]) -> None:
    """Refuse labels that the model has no output for, and held-out people it was trained on."""
    unknown = {cell.label for cell in (*cells.held_out, *cells.training)} - set(classes)
    if unknown:
        raise UserError(
            f"cells are labelled {', '.join(sorted(unknown))}; the model's classes are "
            f"{', '.join(classes)}",
            hint="name the classes as the labels do, in the order of the model's logits",
        )
    both = {c.subject for c in cells.held_out} & {c.subject for c in cells.training} - {""}
    if both:
        raise UserError(
            f"{len(both)} subjects are both in --training and in CELLS, {min(both)} first",
            hint="CELLS must be of people whom the model does not know",
        )

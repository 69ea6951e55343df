"""
A model judged on cells of known class.

Legend: N cells, H x W pixels, C classes, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engines.errors import SourceError
from engines.metrics import (
    Interval,
    Scored,
    confusion,
    intervals,
    subject_accuracies,
)
from engines.models.serving_graph import ServingGraph, network_from_bundle
from engines.uncertainty import probabilities
from train.data.decoded import decoded_cells

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from engines.models.bundle import ModelBundle
    from engines.models.input import ModelInput
    from train.compute import Compute
    from train.data.labelled_cells import LabelledCell

__all__ = [
    "Evaluation",
    "Predictions",
    "evaluated_bundle",
    "evaluation",
    "predictions",
    "truth_of",
    "unseen_by",
]

BATCH = 32


@dataclass(frozen=True, slots=True)
class Predictions:
    """
    What a network says.

    Attributes:
        logits: ``(N, C)`` float32.
        features: ``(N, F)`` float16, the pooled vector of the cell as it lies.
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """
    How good a model was on some cells.

    Attributes:
        cells: How many were scored.
        faults: How many did not decode.
        seen: Subjects the model was trained on; where there are any, the figures are flattered.
        figures: By name, each with its 95% interval.
        subjects: By id: class, cells, share called right.
        confusion: ``(C, C)`` counts, truth by row.
        scored: What the figures were computed from.
    """

    cells: int
    faults: int
    seen: tuple[str, ...]
    figures: Mapping[str, Interval]
    subjects: Mapping[str, tuple[str, int, float]]
    confusion: NDArray[np.int64]
    scored: Scored

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "cells": self.cells,
            "undecodable": self.faults,
            "subjects_trained_on": list(self.seen),
            "classes": list(self.scored.classes),
            "metrics": {n: [f.value, f.low, f.high] for n, f in self.figures.items()},
            "confusion": self.confusion.tolist(),
            "subjects": {n: list(row) for n, row in self.subjects.items()},
        }


def predictions(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    expected: ModelInput,
    compute: Compute,
    *,
    tta: bool = False,
) -> Predictions:
    """
    Run *network* over cells at its input's size.

    Args:
        network: Put into evaluation mode and moved to the device.
        pixels: ``(N, H, W, 3)`` uint8 RGB.
        expected: The network's normalisation.
        compute: Where.
        tta: Average the logits over the eight flips and quarter turns: eight times the work.
    """
    graph = ServingGraph(network, expected).eval()
    graph = graph.to(compute.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    logits, features = [], []
    with torch.inference_mode(), compute.autocast():
        for batch in torch.split(torch.from_numpy(pixels), BATCH):
            outputs = [graph(view)[:2] for view in _views(batch.to(compute.device), tta=tta)]
            logits.append(torch.stack([one for one, _ in outputs]).mean(0).cpu())
            features.append(outputs[0][1].cpu())
    return Predictions(torch.cat(logits).numpy(), torch.cat(features).numpy())


def truth_of(cells: Sequence[LabelledCell], classes: Sequence[str]) -> NDArray[np.int64]:
    """
    Number the cells' classes.

    Raises:
        SourceError: If a label is not among *classes*.
    """
    strange = sorted({cell.label for cell in cells} - set(classes))
    if strange:
        raise SourceError(
            f"the model knows {', '.join(classes)}, some cells are {', '.join(strange)}",
            hint="leave those cells out, or label them by the model's names in a manifest",
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[cell.label] for cell in cells], np.int64)


def evaluation(scored: Scored, *, faults: int, seen: Sequence[str] = ()) -> Evaluation:
    """Compute every figure."""
    return Evaluation(
        cells=len(scored.truth),
        faults=faults,
        seen=tuple(seen),
        figures=intervals(scored),
        subjects=subject_accuracies(scored),
        confusion=confusion(scored),
        scored=scored,
    )


def evaluated_bundle(
    bundle: ModelBundle,
    cells: Sequence[LabelledCell],
    compute: Compute,
    *,
    decoder: str = "auto",
    tta: bool = False,
) -> Evaluation:
    """
    Judge a bundle on labelled cells, at its own temperature and threshold.

    Raises:
        SourceError: If no cell decodes or a label is not one of the model's classes.
    """
    decoded = decoded_cells(cells, bundle.input, decoder)
    truth = truth_of(decoded.cells, bundle.classes)
    if len(set(truth.tolist())) < len(bundle.classes):
        raise SourceError(
            "a model can only be judged on cells of each of its classes",
            hint=f"give decodable cells of {', '.join(bundle.classes)}",
        )
    network = network_from_bundle(bundle)
    logits = predictions(network, decoded.pixels, bundle.input, compute, tta=tta).logits
    scored = Scored(
        bundle.classes,
        truth,
        probabilities(logits, bundle.temperature),
        probabilities(logits, 1.0),
        np.array([cell.subject for cell in decoded.cells]),
        bundle.classes.index(bundle.positive) if bundle.positive else None,
        bundle.threshold,
    )
    known = set(bundle.data.get("training_subjects", ()))
    seen = sorted({cell.subject for cell in decoded.cells} & known)
    return evaluation(scored, faults=len(decoded.faults), seen=seen)


def unseen_by(bundle: ModelBundle, cells: Sequence[LabelledCell]) -> tuple[LabelledCell, ...]:
    """
    Keep the cells of subjects that the bundle was not trained on.

    Raises:
        SourceError: If none are left.
    """
    known = set(bundle.data.get("training_subjects", ()))
    left = tuple(cell for cell in cells if cell.subject not in known)
    if not left:
        raise SourceError(
            "the model was trained on every one of these subjects",
            hint="judge it on others, or without --unseen",
        )
    return left


def _views(pixels_NHWC: Tensor, *, tta: bool) -> Iterator[Tensor]:
    """Yield the batch as it lies, or in its eight attitudes (of a square input)."""
    turns = range(4) if tta else range(1)
    for quarter in turns:
        view = torch.rot90(pixels_NHWC, quarter, (1, 2))
        yield view
        if tta:
            yield view.flip(2)

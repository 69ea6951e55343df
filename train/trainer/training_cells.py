"""The cells of a training in memory: those to learn from and those to judge by."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engines.decode.geometry import placement
from engines.errors import SourceError
from train.data.backgrounds import none, open_backgrounds
from train.data.decoded import decoded_cells, enlarged
from train.evaluation.evaluate import truth_of
from train.trainer.augmentation import ROOM, stored_window

if TYPE_CHECKING:
    from pathlib import Path

    from engines.models.input import ModelInput
    from train.data.decoded import DecodedCells
    from train.data.holdout import Parts
    from train.recipe import Recipe

__all__ = ["TrainingCells", "decoded_parts"]


@dataclass(frozen=True, slots=True)
class TrainingCells:
    """
    What the loop trains on.

    Attributes:
        pixels: ``(N, R, R, 3)`` uint8, larger and wider than the model's input: see
            ``train.trainer.augmentation.ROOM`` and ``REACH``.
        classes: ``(N,)`` class numbers.
        subjects: ``(N,)`` subject numbers.
        backgrounds: ``(M, T, T, 3)`` uint8, of the pixels' scale: see ``train.data.backgrounds``.
    """

    pixels: Tensor
    classes: Tensor
    subjects: Tensor
    backgrounds: Tensor = field(default_factory=none)


def decoded_parts(
    parts: Parts, recipe: Recipe, decoder: str, backgrounds: Path | None
) -> tuple[TrainingCells, DecodedCells, dict[str, str]]:
    """
    Decode a training's cells.

    Args:
        parts: The cells, split.
        recipe: Says at which size.
        decoder: Which decoder reads them.
        backgrounds: Folder of smear fields to put behind segmented cells, or None.

    Returns:
        The cells to learn from, the held-out ones, and what did not decode, by path with the
        reason.

    Raises:
        SourceError: If a part has no decodable cell of one of the classes.
    """
    classes = parts.classes
    stored = enlarged(recipe.input, ROOM, stored_window(recipe))
    learned = decoded_cells(parts.training, stored, decoder)
    held_out = decoded_cells(parts.held_out, recipe.input, decoder)
    _check_decoded(learned, "training", classes)
    _check_decoded(held_out, "held-out", classes)
    _, subjects = np.unique([cell.subject for cell in learned.cells], return_inverse=True)
    cells = TrainingCells(
        torch.from_numpy(learned.pixels),
        torch.from_numpy(truth_of(learned.cells, classes)),
        torch.from_numpy(subjects),
        _backgrounds(learned, stored, backgrounds),
    )
    faults = {fault.ref.path: fault.reason for fault in (*learned.faults, *held_out.faults)}
    return cells, held_out, faults


def _check_decoded(part: DecodedCells, name: str, classes: tuple[str, ...]) -> None:
    """Refuse a part that has lost a class to files that do not decode."""
    missing = sorted(set(classes) - {cell.label for cell in part.cells})
    if missing:
        raise SourceError(
            f"the {name} part has no decodable cells of class {', '.join(missing)}",
            hint="slidescreen-train check names the bad files; give more cells",
        )


def _backgrounds(learned: DecodedCells, stored: ModelInput, folder: Path | None) -> Tensor:
    """Cut backgrounds that fit the crops, taking the first crop's size for everyone's."""
    if folder is None:
        return none()
    with Image.open(io.BytesIO(learned.cells[0].read())) as crop:
        native = placement(crop.height, crop.width, stored).window.width
    return open_backgrounds(folder, native, stored.width)

"""All that is fitted, as one file of a bundle: ``trust.safetensors``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from engines.cells import OPTICAL
from engines.uncertainty.ood import ColourSpace, FeatureSpace, together
from engines.uncertainty.pooling import Pooled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["HeldOut", "Trust"]

NAME = "trust.safetensors"
HELD_OUT = ("logits_NC", "truth_N", "subjects_N", "strangeness_N", "stain_shift_N")
TENSORS = {  # kind of number (NumPy's), dimensions
    "held_out_logits_NC": ("f", 2),
    "held_out_truth_N": ("i", 1),
    "held_out_subjects_N": ("i", 1),
    "held_out_strangeness_N": ("f", 1),
    "held_out_stain_shift_N": ("f", 1),
    "centres_CF": ("f", 2),
    "directions_KF": ("f", 2),
    "variances_K": ("f", 1),
    "rest": ("f", 1),
    "colour_mean": ("f", 1),
    "colour_precision": ("f", 2),
}


@dataclass(frozen=True)
class HeldOut:
    """
    Cells of known class that the model was not trained on.

    Attributes:
        logits: ``(N, C)`` float32.
        truth: ``(N,)`` int32, class numbers.
        subjects: ``(N,)`` int32, a number for each person; names are not kept.
        strangeness: ``(N,)`` float32, their distance in features.
        stain_shift: ``(N,)`` float32, their distance in colour; NaN without foreground.
    """

    logits: NDArray[np.float32]
    truth: NDArray[np.int32]
    subjects: NDArray[np.int32]
    strangeness: NDArray[np.float32]
    stain_shift: NDArray[np.float32]

    @property
    def distances(self) -> NDArray[np.float32]:
        """``(N,)``: how far they are from training, in features and colour together."""
        return together(self.strangeness, self.stain_shift)

    def __post_init__(self) -> None:
        """Refuse cells that cannot be told apart or mean nothing."""
        count, classes = self.logits.shape
        per_cell = (self.truth, self.subjects, self.strangeness, self.stain_shift)
        if not count or any(values.shape != (count,) for values in per_cell):
            raise ValueError("the held-out cells' records differ in length, or there are none")
        if (
            not np.isfinite(self.logits).all()
            or not 0 <= self.truth.min() <= self.truth.max() < classes
        ):
            raise ValueError("the held-out cells' logits or classes mean nothing")
        if np.isnan(self.strangeness).any():
            raise ValueError("the held-out cells' distances from training are no numbers")


@dataclass(frozen=True)
class Trust:
    """
    What a bundle knows of its own limits.

    Attributes:
        held_out: Cells that tell how often the model is right, and what is usual.
        features: Where training cells lie.
        colours: How they look.
    """

    held_out: HeldOut
    features: FeatureSpace
    colours: ColourSpace

    @cached_property
    def usual_strangeness(self) -> Pooled:
        """The held-out cells' distances, in features and colour together."""
        return Pooled.of(self.held_out.distances, self.held_out.subjects)

    @cached_property
    def usual_stain_shift(self) -> Pooled:
        """The held-out cells' distances in colour."""
        return Pooled.of(self.held_out.stain_shift, self.held_out.subjects)

    def distances(
        self, features_NF: NDArray[np.floating], optical_N6: NDArray[np.floating]
    ) -> NDArray[np.float32]:
        """
        Return ``(N,)``: how far cells are from training, in features and colour together.

        Args:
            features_NF: Pooled, of the bundle's network.
            optical_N6: The columns of ``engines.cells.OPTICAL``; NaN without foreground.
        """
        colours = self.colours.distances(optical_N6)
        return together(self.features.distances(features_NF), colours)

    def to_bytes(self) -> bytes:
        """Return the file's bytes: the same for the same numbers."""
        held, features, colours = self.held_out, self.features, self.colours
        tensors = {
            "held_out_logits_NC": held.logits,
            "held_out_truth_N": held.truth,
            "held_out_subjects_N": held.subjects,
            "held_out_strangeness_N": held.strangeness,
            "held_out_stain_shift_N": held.stain_shift,
            "centres_CF": features.centres,
            "directions_KF": features.directions,
            "variances_K": features.variances,
            "rest": np.array([features.rest], np.float32),
            "colour_mean": colours.mean,
            "colour_precision": colours.precision,
        }
        return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})

    @classmethod
    def from_bytes(cls, data: bytes, classes: int) -> Trust:
        """
        Read the file of a bundle of so many *classes*.

        Raises:
            ValueError: If it is not such a file, or means nothing.
        """
        try:
            tensors = load(data)
        except SafetensorError as error:
            raise ValueError(f"{NAME} is damaged: {error}") from error
        found = {name: _tensor(tensors, name, *kind) for name, kind in TENSORS.items()}
        held = HeldOut(*(found[f"held_out_{name}"] for name in HELD_OUT))
        features = FeatureSpace(
            found["centres_CF"],
            found["directions_KF"],
            found["variances_K"],
            float(found["rest"].sum()),
        )
        colours = ColourSpace(found["colour_mean"], found["colour_precision"])
        _require_meaning(features, colours)
        if held.logits.shape[1] != classes:
            raise ValueError(f"{NAME} is of {held.logits.shape[1]} classes, not {classes}")
        return cls(held, features, colours)


def _tensor(tensors: Mapping[str, NDArray[Any]], name: str, kind: str, dims: int) -> NDArray[Any]:
    """
    Return a tensor of the file.

    Raises:
        ValueError: If it is missing, holds numbers of another kind, or has other dimensions.
    """
    found = tensors.get(name)
    if found is None or found.dtype.kind != kind or found.ndim != dims or not found.size:
        raise ValueError(f"{NAME} is damaged: {name} is missing, empty or of another type")
    return found


def _require_meaning(features: FeatureSpace, colours: ColourSpace) -> None:
    """Raise ValueError unless distances can be measured in both spaces."""
    (directions, width), several = features.directions.shape, len(OPTICAL)
    fitting = (
        features.centres.shape[1] == width
        and features.variances.shape == (directions,)
        and colours.mean.shape == (several,)
        and colours.precision.shape == (several, several)
    )
    numbers = [features.centres, features.directions, features.variances]
    numbers += [colours.mean, colours.precision]
    finite = all(np.isfinite(each).all() for each in numbers)
    if not fitting or not finite or not features.variances.min() > 0 or not features.rest > 0:
        raise ValueError(f"{NAME}: its distances would mean nothing")

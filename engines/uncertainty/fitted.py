"""All that is fitted, as one file of a bundle: ``trust.safetensors``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from engines.uncertainty.ood import ColourSpace, FeatureSpace, together
from engines.uncertainty.pooling import Pooled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HeldOut", "Trust"]

NAME = "trust.safetensors"


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
            found = load(data)
            held = HeldOut(
                found["held_out_logits_NC"],
                found["held_out_truth_N"],
                found["held_out_subjects_N"],
                found["held_out_strangeness_N"],
                found["held_out_stain_shift_N"],
            )
            features = FeatureSpace(
                found["centres_CF"],
                found["directions_KF"],
                found["variances_K"],
                float(found["rest"][0]),
            )
            colours = ColourSpace(found["colour_mean"], found["colour_precision"])
        except (KeyError, SafetensorError) as error:
            raise ValueError(f"{NAME} is damaged: {error}") from error
        if held.logits.shape[1] != classes:
            raise ValueError(f"{NAME} is of {held.logits.shape[1]} classes, not {classes}")
        return cls(held, features, colours)

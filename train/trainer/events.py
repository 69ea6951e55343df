"""What a training tells whoever iterates over it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EpochDone", "StepDone"]


@dataclass(frozen=True, slots=True)
class StepDone:
    """
    One step of training.

    Attributes:
        epoch: From 0.
        step: Of this epoch, from 1.
        steps: In this epoch.
        loss: Of the step's batch.
        cells_per_step: Of the batch.
        cells_per_s: Since the epoch began.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    cells_per_step: int
    cells_per_s: float


@dataclass(frozen=True, slots=True)
class EpochDone:
    """
    One epoch, kept on disk.

    Attributes:
        epoch: From 0.
        loss: Mean over the epoch's steps.
        cells_per_s: While training.
        metrics: Of the held-out cells, as ``judge`` names them.
        best: Whether these are the best weights so far.
    """

    epoch: int
    loss: float
    cells_per_s: float
    metrics: Mapping[str, float]
    best: bool

    def record(self) -> dict[str, Any]:
        """Return plain values, in the order of the fields."""
        return {**asdict(self), "metrics": dict(self.metrics)}

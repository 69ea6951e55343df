"""What a crop becomes before the network sees it, and where in that its last map looks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CHANNELS", "FieldCentres", "Filter", "Fit", "ModelInput"]

CHANNELS = 3
MOST_SIDE = 2048  # a batch of four takes 50 MB before the network has begun
TIMM_CROP_MODES = {"squash": "squash", "pad": "border"}

Fit = Literal["squash", "pad"]
Filter = Literal["bilinear", "bicubic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """
    How a crop becomes the model's input; ``engines.decode.geometry`` is the rule in pixels.

    Attributes:
        height: Of the model's input, in pixels.
        width: Likewise.
        fit: ``squash`` scales both sides to size; ``pad`` keeps the aspect ratio and
            adds black around it.
        crop_pct: Centre crop: the share of the crop's sides that is shown, as timm's
            ``crop_pct``; 1.0 shows the whole crop.
        filter: Resampling filter, antialiased when shrinking.
        mean: Per RGB channel, of values in 0..1.
        std: Likewise.
    """

    height: int
    width: int
    fit: Fit = "squash"
    crop_pct: float = 1.0
    filter: Filter = "bicubic"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse what no decoder could honour."""
        if not 1 <= min(self.height, self.width) <= max(self.height, self.width) <= MOST_SIDE:
            raise ValueError(
                f"input size must be 1 to {MOST_SIDE} pixels a side, got {self.height}x{self.width}"
            )
        if self.fit not in ("squash", "pad"):
            raise ValueError(f"fit must be squash or pad, got {self.fit!r}")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct must be above 0 and at most 1, got {self.crop_pct}")
        if self.filter not in ("bilinear", "bicubic"):
            raise ValueError(f"filter must be bilinear or bicubic, got {self.filter!r}")
        if not len(self.mean) == len(self.std) == CHANNELS or not min(self.std) > 0:
            raise ValueError("mean and std need three values each, std above 0")
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite numbers")

    @property
    def crop_mode(self) -> str:
        """Timm's name of the fit, as config.json states it."""
        return TIMM_CROP_MODES[self.fit]


@dataclass(frozen=True, slots=True)
class FieldCentres:
    """
    Centres of receptive fields: place (i, j) looks at ``(top + i * down, left + j * across)``.

    In pixels of the model's input; the middle of the first pixel is (0.5, 0.5).

    Attributes:
        top: Of the first place.
        left: Likewise.
        down: From one place to the next below it.
        across: From one place to the next beside it.
    """

    top: float
    left: float
    down: float
    across: float

    def after(
        self, kernel: Sequence[float], stride: Sequence[int], padding: Sequence[int]
    ) -> FieldCentres:
        """
        Return the centres after a window has moved over the places.

        Args:
            kernel: Height and width of the window, in places from its first to its last, plus one.
            stride: By how many places it moves.
            padding: Places added above and to the left.
        """
        return FieldCentres(
            self.top + self.down * ((kernel[0] - 1) / 2 - padding[0]),
            self.left + self.across * ((kernel[1] - 1) / 2 - padding[1]),
            self.down * stride[0],
            self.across * stride[1],
        )

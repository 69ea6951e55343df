"""Where a crop lands in the model's input: one rule for every decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.models.bundle import ModelInput

__all__ = ["Placement", "placement"]


@dataclass(frozen=True, slots=True)
class Placement:
    """A rectangle of the model's input, in pixels; the rest of the input is black."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def placement(height: int, width: int, expected: ModelInput) -> Placement:
    """Return where an image of *height* x *width* goes: all of the input, or centred in it."""
    if expected.fit == "squash":
        return Placement(0, 0, expected.height, expected.width)
    scale = min(expected.height / height, expected.width / width)
    high = min(expected.height, max(1, round(height * scale)))
    wide = min(expected.width, max(1, round(width * scale)))
    return Placement((expected.height - high) // 2, (expected.width - wide) // 2, high, wide)

"""
Which part of a crop the network sees and where that lands in its input: one rule for everyone.

The rule, for an image of h x w pixels, upright (after any EXIF orientation), and an input of H x W:
each axis has a scale, in input pixels per pixel of the image: with ``squash`` ``H / h / crop_pct``
and ``W / w / crop_pct``, with ``pad`` the smaller of the two for both. Where the image is longer
than what the input can show at that scale, the same whole number of pixels is cut off at either
end (the exact margin, rounded half up; the middle one or two always stay), and what is left fills
the input. Where it is not longer, all of it is shown, centred, with black around it. So the part
shown is exactly centred, and turning or mirroring an image and showing its middle commute.

What is cut off is cut off before resizing: the filter never sees it. timm resizes first and cuts
then, which differs at the window's rim and by up to half a pixel of its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engines.models.input import ModelInput

__all__ = ["Placement", "Rectangle", "placement"]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """
    A rectangle of whole pixels.

    Attributes:
        top: First row.
        left: First column.
        height: In pixels.
        width: Likewise.
    """

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


@dataclass(frozen=True, slots=True)
class Placement(Rectangle):
    """
    A rectangle of the model's input; the rest of the input is black.

    Attributes:
        window: The part of the image, in its own pixels, that is resized into the rectangle.
    """

    window: Rectangle


def placement(height: int, width: int, expected: ModelInput) -> Placement:
    """Return which part of an upright image of *height* x *width* is shown, and where."""
    tall, wide = expected.height / height, expected.width / width
    if expected.fit == "pad":
        tall = wide = min(tall, wide)
    rows = _axis(height, expected.height, tall / expected.crop_pct)
    columns = _axis(width, expected.width, wide / expected.crop_pct)
    window = Rectangle(rows.first, columns.first, rows.shown, columns.shown)
    return Placement(rows.lands, columns.lands, rows.filled, columns.filled, window)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis: *shown* pixels from *first* on become *filled* pixels from *lands* on."""

    first: int
    shown: int
    lands: int
    filled: int


def _axis(length: int, size: int, scale: float) -> _Axis:
    """Show *length* pixels, or the middle ones, at *scale* in *size* pixels."""
    cut = min(int((length - size / scale) / 2 + 0.5), (length - 1) // 2)
    if cut > 0:
        return _Axis(cut, length - 2 * cut, 0, size)
    filled = min(size, max(1, round(length * scale)))
    return _Axis(0, length, (size - filled) // 2, filled)

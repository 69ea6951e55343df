"""
Regions of images: a box cut out of a field, as an image file of its own.

The file is a plain BMP, so every decoder takes it. What it is cut from stands behind its pixels:
the hash of its bytes is therefore that of the field's bytes and the box.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Region", "padded_share", "region_file"]

SIGNATURE = b"\0slidescreen region\0"
PER_MILLION = 1_000_000
SHARE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Region:
    """
    A rectangle of whole pixels; it may reach beyond the image.

    Attributes:
        left: Its first column.
        top: Its first row.
        width: In pixels, at least 1.
        height: Likewise.
    """

    left: int
    top: int
    width: int
    height: int

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float, margin: int) -> Region | None:
        """Return the pixels that a box touches, and *margin* more around; None for an empty box."""
        if not (width > 0 and height > 0):
            return None
        left, top = math.floor(x), math.floor(y)
        right, bottom = math.ceil(x + width), math.ceil(y + height)
        wide, high = right - left + 2 * margin, bottom - top + 2 * margin
        return cls(left - margin, top - margin, wide, high)

    def meets(self, height: int, width: int) -> bool:
        """Whether any pixel of it lies in an image of this size."""
        across = self.left < width and self.left + self.width > 0
        return across and self.top < height and self.top + self.height > 0


def region_file(image: NDArray[np.uint8], region: Region, identity: bytes) -> bytes:
    """
    Cut a region out of an image; what lies outside of the image is black.

    Args:
        image: ``(height, width, 3)`` uint8 RGB.
        region: It has pixels in the image.
        identity: Of the box: the same for the same box of the same bytes, and only for that.
    """
    pixels = np.zeros((region.height, region.width, 3), np.uint8)
    left, top = max(region.left, 0), max(region.top, 0)
    part = image[top : region.top + region.height, left : region.left + region.width]
    below, right = top - region.top, left - region.left
    pixels[below : below + part.shape[0], right : right + part.shape[1]] = part
    outside = 1 - part.shape[0] * part.shape[1] / (region.height * region.width)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    share = round(outside * PER_MILLION).to_bytes(SHARE_BYTES, "big")
    return b"".join([file.getvalue(), identity, share, SIGNATURE])


def padded_share(data: bytes) -> float | None:
    """Return which share of a region lies outside of its field; None for any other file."""
    if not data.endswith(SIGNATURE):
        return None
    share = data[-len(SIGNATURE) - SHARE_BYTES : -len(SIGNATURE)]
    return int.from_bytes(share, "big") / PER_MILLION

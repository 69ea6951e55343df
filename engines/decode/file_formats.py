"""The one kind of BMP that is just pixels: uncompressed, 24-bit, every row there."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["BmpBody", "plain_bmp"]

HEADER = struct.Struct("<2s8xIIiiHHI")
FILE_HEADER = 14  # bytes
BITMAPINFOHEADER = 40  # bytes; older headers are shorter


@dataclass(frozen=True, slots=True)
class BmpBody:
    """
    Where the pixels of a plain BMP lie in its bytes.

    Attributes:
        offset: Of the first row.
        height: In pixels.
        width: Likewise.
        bottom_up: Whether the first row is the lowest.
    """

    offset: int
    height: int
    width: int
    bottom_up: bool

    @property
    def row(self) -> int:
        """Bytes of a row: three a pixel, blue first, padded to a multiple of four."""
        return (self.width * 3 + 3) // 4 * 4

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self.row * self.height


def plain_bmp(data: bytes) -> BmpBody | None:
    """Return where the pixels are, if the file is plain and every row is there, padding and all."""
    if len(data) < HEADER.size:
        return None
    magic, offset, header, width, height, planes, bits, compression = HEADER.unpack_from(data)
    if (magic, planes, bits, compression) != (b"BM", 1, 24, 0) or header < BITMAPINFOHEADER:
        return None
    body = BmpBody(offset, abs(height), width, bottom_up=height > 0)
    if width <= 0 or offset < FILE_HEADER + header or offset + body.size > len(data):
        return None
    return body

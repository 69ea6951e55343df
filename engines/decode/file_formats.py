"""
The kinds of file that every decoder reads alike, told from their headers.

A plain BMP is just pixels: uncompressed, 24-bit, every row there. A plain JPEG is 8-bit, grey or
YCbCr, and upright. A plain PNG is any that says nothing of an orientation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from engines.decode.header_limits import PNG_SIGNATURE

__all__ = ["BmpBody", "plain_bmp", "plain_jpeg_size", "plain_png_size"]

BMP_HEADER = struct.Struct("<2s8xIIiiHHI")
FILE_HEADER = 14  # bytes
PNG_HEADER = struct.Struct(">8s4x4sII")

BITMAPINFOHEADER = 40  # bytes; older headers are shorter

START, MARKER, SCAN = b"\xff\xd8", 0xFF, 0xDA
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded
OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8}  # lossless, hierarchical, arithmetic
FRAME_HEADER, COMPONENT, BITS = struct.Struct(">BHHB"), 3, 8  # bytes of a component, bits
EXIF, ADOBE = (0xE1, b"Exif"), (0xEE, b"Adobe")
YCBCR_IDS = (b"\x01\x02\x03", b"\x00\x01\x02")  # libjpeg takes b"RGB", for one, at its word


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
    if len(data) < BMP_HEADER.size:
        return None
    magic, offset, header, width, height, planes, bits, compression = BMP_HEADER.unpack_from(data)
    if (magic, planes, bits, compression) != (b"BM", 1, 24, 0) or header < BITMAPINFOHEADER:
        return None
    body = BmpBody(offset, abs(height), width, bottom_up=height > 0)
    if width <= 0 or offset < FILE_HEADER + header or offset + body.size > len(data):
        return None
    return body


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """
    Return height and width of a JPEG that has nothing decoders may read otherwise than libjpeg.

    That is: Huffman-coded, 8 bits a sample, one component or the usual three, no Exif (which may
    hold an orientation) and no Adobe segment (which may say that the colours are not YCbCr). None
    for any other JPEG, and for what is none.
    """
    if not data.startswith(START):
        return None
    position, size = 2, None
    while position + 4 <= len(data) and data[position] == MARKER:
        marker, length = struct.unpack_from(">xBH", data, position)
        if marker == SCAN:
            return size
        body = data[position + 4 : position + 2 + length]
        if marker in OTHER_FRAMES or _is(marker, body, EXIF) or _is(marker, body, ADOBE):
            return None
        if marker in FRAMES and (size := _usual_frame_size(body)) is None:
            return None
        position += 2 + length
    return None


def plain_png_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a PNG without Exif, which may hold an orientation; else None."""
    if len(data) < PNG_HEADER.size or b"eXIf" in data:
        return None
    signature, kind, width, height = PNG_HEADER.unpack_from(data)
    if (signature, kind) != (PNG_SIGNATURE, b"IHDR") or not (width and height):
        return None
    return height, width


def _is(marker: int, body: bytes, segment: tuple[int, bytes]) -> bool:
    """Tell whether this is that segment."""
    return marker == segment[0] and body.startswith(segment[1])


def _usual_frame_size(body: bytes) -> tuple[int, int] | None:
    """Return height and width if a frame is of 8 bits, grey or YCbCr (ITU-T T.81, B.2.2)."""
    if len(body) < FRAME_HEADER.size:
        return None
    bits, height, width, components = FRAME_HEADER.unpack_from(body)
    ids = body[FRAME_HEADER.size :: COMPONENT][:components]
    usual = bits == BITS and (components == len(ids) == 1 or ids in YCBCR_IDS)
    return (height, width) if usual and height and width else None

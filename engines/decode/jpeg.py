"""The kind of JPEG that every decoder reads alike: 8-bit grey or YCbCr, upright."""

from __future__ import annotations

import struct

__all__ = ["is_plain_jpeg"]

START, MARKER, SCAN = b"\xff\xd8", 0xFF, 0xDA
FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, Huffman-coded
OTHER_FRAMES = {*range(0xC3, 0xD0)} - {0xC4, 0xC8}  # lossless, hierarchical, arithmetic
FRAME_HEADER, COMPONENT, BITS = struct.Struct(">BHHB"), 3, 8  # bytes of a component, bits
EXIF, ADOBE = (0xE1, b"Exif"), (0xEE, b"Adobe")
YCBCR_IDS = (b"\x01\x02\x03", b"\x00\x01\x02")  # libjpeg takes b"RGB", for one, at its word


def is_plain_jpeg(data: bytes) -> bool:
    """
    Tell whether a JPEG has nothing that GPU decoders may read otherwise than libjpeg.

    That is: Huffman-coded, 8 bits a sample, one component or the usual three, no Exif (which may
    hold an orientation) and no Adobe segment (which may say that the colours are not YCbCr).
    """
    if not data.startswith(START):
        return False
    position, framed = 2, False
    while position + 4 <= len(data) and data[position] == MARKER:
        marker, length = struct.unpack_from(">xBH", data, position)
        if marker == SCAN:
            return framed
        body = data[position + 4 : position + 2 + length]
        if marker in OTHER_FRAMES or _is(marker, body, EXIF) or _is(marker, body, ADOBE):
            return False
        if marker in FRAMES:
            framed = _is_usual_frame(body)
            if not framed:
                return False
        position += 2 + length
    return False


def _is(marker: int, body: bytes, segment: tuple[int, bytes]) -> bool:
    """Tell whether this is that segment."""
    return marker == segment[0] and body.startswith(segment[1])


def _is_usual_frame(body: bytes) -> bool:
    """Tell whether a frame header names 8 bits and grey or YCbCr (ITU-T T.81, B.2.2)."""
    if len(body) < FRAME_HEADER.size:
        return False
    bits, _, _, components = FRAME_HEADER.unpack_from(body)
    ids = body[FRAME_HEADER.size :: COMPONENT][:components]
    return bits == BITS and (components == len(ids) == 1 or ids in YCBCR_IDS)

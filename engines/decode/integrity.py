"""
Damage that pixel decoders let through, found from the file alone, for every decoder alike.

A JPEG is damaged when libjpeg warns about it, a PNG when a chunk's checksum is wrong, a WebP when
its chunks are not as long together as it says. BMP, TIFF, JPEG 2000 and PNM carry no checksum: a
changed byte in their pixels cannot be seen by anyone. ``benchmarks/damage.py`` measures what gets
through.
"""

from __future__ import annotations

import re
import struct
import zlib

import simplejpeg

from engines.decode.header_limits import PNG_SIGNATURE, png_chunks, webp_chunks

__all__ = ["damage"]

PNG_CHECKSUM = 4  # bytes, behind a chunk's body
PNM_HEADER = re.compile(rb"P[2356](?:\s+(?:#[^\n]*\n\s*)*\d+){2}\s+(?:#[^\n]*\n\s*)*(\d{1,9})\s")
PNM_MAXIMA = (255, 65535)


def damage(data: bytes) -> str | None:
    """Return what is wrong with an encoded image, or None if nothing can be told."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_damage(data)
    if data.startswith(PNG_SIGNATURE):
        return _png_damage(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_damage(data)
    if data[:1] == b"P" and data[1:2] in b"2356":
        return _pnm_damage(data)
    return None


def _jpeg_damage(data: bytes) -> str | None:
    """Decode strictly at one eighth: as watchful as at full size, and a third of its cost."""
    try:
        simplejpeg.decode_jpeg(data, min_height=1, min_width=1, strict=True)
    except ValueError as error:
        return f"damaged JPEG: {error}"
    return None


def _png_damage(data: bytes) -> str | None:
    """Walk the chunks to IEND and check each one's CRC-32 (PNG specification, section 5.3)."""
    view = memoryview(data)
    for kind, start, end in png_chunks(data):
        checksum = data[end : end + PNG_CHECKSUM]
        if len(checksum) < PNG_CHECKSUM:
            break
        if zlib.crc32(view[start - len(kind) : end]) != int.from_bytes(checksum, "big"):
            return f"damaged PNG: wrong checksum in chunk {kind.decode('latin-1')!r}"
        if kind == b"IEND":
            return None
    return "truncated PNG"


def _webp_damage(data: bytes) -> str | None:
    """Walk the chunks: they fill the container, and that is the file (RFC 9649, 2.4)."""
    stated = struct.unpack_from("<I", data, 4)[0] + 8
    if stated > len(data):
        return "truncated WebP"
    ends = [end for _, _, end in webp_chunks(data)]
    if not ends or stated not in (ends[-1], ends[-1] + ends[-1] % 2):
        return "damaged WebP: its chunks do not end where it says that it does"
    return None


def _pnm_damage(data: bytes) -> str | None:
    """Refuse a range that decoders do not agree how to scale."""
    header = PNM_HEADER.match(data)
    if header is None:
        return "PNM without a valid header"
    if int(header[1]) not in PNM_MAXIMA:
        return f"PNM with maximum {int(header[1])}; only 255 and 65535 can be read safely"
    return None

"""
What a file may claim: chunks, scans and tiles, counted before any decoder sees the bytes.

A file of a few bytes can state a chunk of gigabytes, a thousand scans or a million tiles, and a
decoder that takes it at its word needs gigabytes or minutes. What is refused here is refused alike
by every decoder. The tiles and strips of a TIFF are counted where its header is read
(``engines.decode.pillow``).
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MOST_CHUNKS",
    "MOST_SCANS",
    "MOST_TILES",
    "PNG_SIGNATURE",
    "header_limits",
    "overclaim",
    "png_chunks",
    "too_many_tiles",
    "webp_chunks",
    "webp_size",
]

MOST_SCANS = 100  # of a JPEG: encoders write ten; libjpeg-turbo's own tools stop at 500
MOST_CHUNKS = 100_000  # of a PNG or a WebP: encoders write one every 8 kB
MOST_TILES = 100_000  # of a TIFF or a JPEG 2000: tiles of 16 x 16 in 25 megapixels
TILED_SLACK = 2**24  # pixels: a single tile may be larger than what it shows

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNK, PNG_CHECKSUM = struct.Struct(">I4s"), 4
WEBP_CHUNK, WEBP_FIRST_CHUNK = struct.Struct("<4sI"), 12
WEBP_SIZES_END = 30  # where the first chunk has stated the size, whatever its kind
Chunks: TypeAlias = "Iterator[tuple[bytes, int, int]]"
JPEG_START, JPEG_SCAN = b"\xff\xd8\xff", 0xDA
JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # no stuffing, no restart
JPEG_ALONE = {0x01, 0xD8, 0xD9}  # markers without a segment
JPEG2000_STARTS = (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n")
JPEG2000_SIZE = re.compile(rb"\xff\x4f\xff\x51.{4}(.{32})", re.DOTALL)


def header_limits() -> str:
    """Say what the limits are, for the fingerprint of a run: with others, other cells are bad."""
    return f"{MOST_CHUNKS} chunks, {MOST_SCANS} scans, {MOST_TILES} tiles"


def overclaim(data: bytes) -> str | None:
    """Return what a file claims beyond its own length or any sensible number, or None."""
    if data.startswith(JPEG_START):
        return _jpeg_overclaim(data)
    if data.startswith(PNG_SIGNATURE):
        return _chunk_overclaim("PNG", data, png_chunks(data))
    if _is_webp(data):
        return _chunk_overclaim("WebP", data, webp_chunks(data))
    if data.startswith(JPEG2000_STARTS) and (size := JPEG2000_SIZE.search(data)):
        return _jpeg2000_overclaim(size[1])
    return None


def png_chunks(data: bytes) -> Chunks:
    """Yield kind, start and end of each chunk's body as stated, up to IEND or the file's end."""
    position, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND" and position + PNG_CHUNK.size <= len(data):
        length, kind = PNG_CHUNK.unpack_from(data, position)
        start = position + PNG_CHUNK.size
        yield kind, start, start + length
        position = start + length + PNG_CHECKSUM


def webp_chunks(data: bytes) -> Chunks:
    """Yield kind, start and end of each chunk's body as stated (RFC 9649, 2.3)."""
    position = WEBP_FIRST_CHUNK
    while position + WEBP_CHUNK.size <= len(data):
        kind, length = WEBP_CHUNK.unpack_from(data, position)
        start = position + WEBP_CHUNK.size
        yield kind, start, start + length
        position = start + length + length % 2


def webp_size(data: bytes) -> tuple[int, int] | None:
    """
    Return height and width of a WebP (RFC 9649, 2.5 to 2.7), or None if it is none.

    Pillow sets the whole canvas up as soon as it opens one, so its size has to be known before.
    """
    if not _is_webp(data) or len(data) < WEBP_SIZES_END:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def too_many_tiles(height: int, width: int, tile_height: int, tile_width: int) -> str | None:
    """Return what is wrong with the tiles of an image, or None."""
    tiles = -(-height // tile_height) * -(-width // tile_width)
    if tiles > MOST_TILES:
        return f"{tiles:,} tiles, more than {MOST_TILES:,}"
    if tiles * tile_height * tile_width > 4 * height * width + TILED_SLACK:
        return f"tiles of {tile_width} x {tile_height} for {width} x {height} pixels"
    return None


def _is_webp(data: bytes) -> bool:
    """Tell whether this is a WebP container."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def _chunk_overclaim(name: str, data: bytes, chunks: Chunks) -> str | None:
    """Compare what chunks state with what there is, and count them."""
    for number, (kind, start, end) in enumerate(chunks):
        if end > len(data):
            what = f"chunk {kind.decode('latin-1')!r} of {end - start:,} bytes"
            return f"truncated {name}: it states a {what}"
        if number >= MOST_CHUNKS:
            return f"{name} of more than {MOST_CHUNKS:,} chunks"
    return None


def _jpeg_overclaim(data: bytes) -> str | None:
    """Count the scans; where no more than the limit could be there, without a closer look."""
    if data.count(b"\xff\xda") <= MOST_SCANS:
        return None
    scans = sum(marker == JPEG_SCAN for marker in _jpeg_markers(data))
    return f"JPEG of {scans:,} scans, more than {MOST_SCANS}" if scans > MOST_SCANS else None


def _jpeg_markers(data: bytes) -> Iterator[int]:
    """Yield the markers, passing over segments and entropy-coded data (ITU-T T.81, B.1.1)."""
    position = 0
    while found := JPEG_MARKER.search(data, position):
        marker, position = found[1][0], found.end()
        yield marker
        if marker not in JPEG_ALONE:
            position += int.from_bytes(data[position : position + 2], "big")


def _jpeg2000_overclaim(size: bytes) -> str | None:
    """Count the tiles that a codestream's SIZ segment states (ITU-T T.800, A.5.1)."""
    right, bottom, left, top, tile_width, tile_height, *_ = struct.unpack(">8I", size)
    height, width = bottom - top, right - left
    if min(height, width, tile_width, tile_height) < 1:
        return "JPEG 2000 of no size, or with tiles of none"
    # A tile that reaches over the rim has no pixels there.
    if reason := too_many_tiles(height, width, min(tile_height, height), min(tile_width, width)):
        return f"JPEG 2000 of {reason}"
    return None

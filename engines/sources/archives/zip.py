"""Zip files: the directory is read once; a member is found by what it said."""

from __future__ import annotations

import bz2
import json
import logging
import struct
import zipfile
import zlib
from calendar import timegm
from typing import TYPE_CHECKING, NamedTuple

from engines.cells import RefusedCellError
from engines.sources.archives.members import CHANGED, ENDS_WITHIN, MOST_TEXT, Member, most_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from engines.sources.archives.members import Problems

__all__ = ["ZipFormat", "is_zip"]

LOG = logging.getLogger(__name__)
LOCAL, EMPTY = b"PK\x03\x04", b"PK\x05\x06"
HEADER = struct.Struct("<4s5H3L2H")  # of a member (APPNOTE 4.3.7)
ENCRYPTED, SIZES_FOLLOW, UTF8 = 0x1, 0x8, 0x800
RAW = -15  # deflate as zip has it, without a header of its own
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


def is_zip(start: bytes) -> bool:
    """Whether a file is a zip file, going by its first bytes; it may be cut off."""
    return start.startswith((LOCAL, EMPTY))


class Place(NamedTuple):
    """
    Where a member is, and what the directory says of it.

    Attributes:
        offset: Of its header.
        packed: Bytes as they are stored.
        size: Bytes unpacked.
        method: How it is packed, by zip's number.
        check: CRC-32 of the bytes unpacked.
        name: In the zip file's own bytes, as hex.
    """

    offset: int
    packed: int
    size: int
    method: int
    check: int
    name: str


class Header(NamedTuple):
    """
    What stands before a member's bytes.

    Attributes:
        place: As the header says it; without sizes where they follow the bytes.
        name: Of the member.
        flags: Of zip.
        data: Where the bytes begin.
    """

    place: Place
    name: str
    flags: int
    data: int


class ZipFormat:
    """
    A Format (see ``members``) of zip files.

    zipfile reads the directory, once. It would read it again in every thread and process before it
    gives a member, so members are read by what the directory said of them.
    """

    def members(self, file: BinaryIO, problems: Problems) -> Iterator[Member]:
        """Read the directory; where it is cut off, go from member to member."""
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile:
            yield from self._found(file, problems)
            return
        with archive:
            for info in archive.infolist():
                if not info.is_dir():
                    name = info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437")
                    place = Place(
                        info.header_offset, info.compress_size, info.file_size,
                        info.compress_type, info.CRC, name.hex(),
                    )  # fmt: skip
                    modified = timegm((*info.date_time, 0, 0, 0)) * 10**9
                    yield self._member(file, place, info.filename, info.flag_bits, modified)

    def read(self, file: BinaryIO, place: str, most_bytes: int) -> bytes:
        """Unpack a member; its CRC-32 has to be right."""
        wanted = Place(*json.loads(place))
        if wanted.size > most_bytes:
            raise RefusedCellError("oversized", f"{wanted.size:,} bytes when it is unpacked")
        header = _header(file, wanted.offset)
        if header is None or header.place.name != wanted.name:
            raise OSError(0, CHANGED)
        file.seek(header.data)
        packed = file.read(wanted.packed)
        if len(packed) < wanted.packed:
            raise OSError(0, ENDS_WITHIN)
        try:
            data = _unpacked(packed, wanted)
        except (zlib.error, OSError, EOFError) as error:
            raise RefusedCellError("undecodable", f"damaged in the archive: {error}") from error
        if len(data) != wanted.size or zlib.crc32(data) != wanted.check:
            reason = "damaged in the archive: its size or its CRC-32 is wrong"
            raise RefusedCellError("undecodable", reason)
        return data

    def size(self, file: BinaryIO, place: str) -> int | None:
        """Look at the member's header."""
        wanted = Place(*json.loads(place))
        header = _header(file, wanted.offset)
        return wanted.size if header and header.place.name == wanted.name else None

    def _member(self, file: BinaryIO, place: Place, name: str, flags: int, modified: int) -> Member:
        """Describe a member."""
        refused = ""
        if flags & ENCRYPTED:
            refused = "it is encrypted"
        elif place.method not in METHODS:
            refused = f"packed by zip's method {place.method}, which is not read"
        where, text, called = json.dumps(place), "", name.encode("utf-8", "surrogateescape")
        if place.size <= most_text(called) and not refused:
            text = self._text(file, where, name)
        return Member(called, where, place.size, modified, refused, text=text)

    def _text(self, file: BinaryIO, where: str, name: str) -> str:
        """Read what a member says of its sample; damaged, it says nothing."""
        try:
            return (
                self.read(file, where, max(MOST_TEXT.values())).decode("utf-8", "replace").strip()
            )
        except RefusedCellError as error:
            LOG.warning("%s: %s; what it says is not taken", name, error.strerror)
            return ""

    def _found(self, file: BinaryIO, problems: Problems) -> Iterator[Member]:
        """Yield the members that stand one behind the other from the start of a broken file."""
        size, offset = file.seek(0, 2), 0
        problems.text = f"it ends at byte {size:,} without its directory: more may have followed"
        while (header := _header(file, offset)) is not None:
            if header.flags & SIZES_FOLLOW:
                problems.text = (
                    f"it ends at byte {size:,} without its directory, and from byte {offset:,} on "
                    "it does not say where members end"
                )
                return
            if not header.name.endswith("/"):
                yield self._member(file, header.place, header.name, header.flags, 0)
            offset = header.data + header.place.packed


def _header(file: BinaryIO, offset: int) -> Header | None:
    """Read the header of a member; None if there is none."""
    file.seek(offset)
    start = file.read(HEADER.size)
    if len(start) < HEADER.size or not start.startswith(LOCAL):
        return None
    _, _, flags, method, _, _, check, packed, size, name_length, extra = HEADER.unpack(start)
    name = file.read(name_length)
    if not 0 < len(name) == name_length:
        return None
    place = Place(offset, packed, size, method, check, name.hex())
    words = name.decode("utf-8" if flags & UTF8 else "cp437", "replace")
    return Header(place, words, flags, offset + HEADER.size + name_length + extra)


def _unpacked(packed: bytes, place: Place) -> bytes:
    """Unpack a member, and never more than one byte more than it should have."""
    if place.method == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(RAW).decompress(packed, place.size + 1)
    if place.method == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, place.size + 1)
    return packed

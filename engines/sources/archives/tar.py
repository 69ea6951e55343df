"""Tar files: every member is found once, and read from its place in the file."""

from __future__ import annotations

import json
import tarfile
import zlib
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.sources.archives.members import CHANGED, ENDS_WITHIN, Member, most_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from engines.sources.archives.members import Problems

__all__ = ["TarFormat", "is_tar"]

BLOCK = tarfile.BLOCKSIZE
MOST_CELL = 2**30
PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


def is_tar(start: bytes, name: str) -> bool:
    """Whether a file is a tar file, going by its first bytes, or where it is packed by its name."""
    packed = any(start.startswith(magic) for magic, _ in PACKED)
    if packed:
        return ".tar" in name.lower() or name.lower().endswith((".tgz", ".tbz2", ".txz"))
    try:
        tarfile.TarInfo.frombuf(start[:BLOCK], tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class TarFormat:
    """
    A Format (see ``members``) of tar files.

    A member's place is where its bytes begin, how many they are, and the CRC-32 of its header: so
    an archive that was written anew is noticed at the first cell.
    """

    def members(self, file: BinaryIO, problems: Problems) -> Iterator[Member]:
        """Go from header to header; nothing is kept in memory."""
        start = file.read(BLOCK)
        kind = next((kind for magic, kind in PACKED if start.startswith(magic)), None)
        if kind:
            raise SourceError(
                f"{getattr(file, 'name', 'the archive')} is packed as a whole ({kind}): its cells "
                "cannot be read one by one",
                hint="unpack the tar file itself first (gunzip, bunzip2, unxz or zstd -d)",
            )
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as tar:
            try:
                while (info := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]
                    if info.isfile() or info.issym() or info.islnk():
                        yield self._member(tar, info)
            except tarfile.ReadError:
                problems.text = f"it ends at byte {file.seek(0, 2):,}, within a member"
            else:
                problems.text = _end(file, tar.offset)

    def read(self, file: BinaryIO, place: str, most_bytes: int) -> bytes:
        """Read header and bytes at once."""
        del most_bytes  # nothing is packed in a tar file: it is no larger than it says
        offset, size, check = json.loads(place)
        if size > MOST_CELL:
            raise OSError(0, f"a file of {size:,} bytes, more than {MOST_CELL:,}")
        file.seek(offset - BLOCK)
        found = file.read(BLOCK + size)
        if zlib.crc32(found[:BLOCK]) != check:
            raise OSError(0, CHANGED)
        if len(found) < BLOCK + size:
            raise OSError(0, ENDS_WITHIN)
        return found[BLOCK:]

    def size(self, file: BinaryIO, place: str) -> int | None:
        """Look at the header."""
        offset, size, check = json.loads(place)
        file.seek(offset - BLOCK)
        return int(size) if zlib.crc32(file.read(BLOCK)) == check else None

    def _member(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
        """Describe a member."""
        name = info.name.encode("utf-8", "surrogateescape")
        link = info.linkname.encode("utf-8", "surrogateescape") if not info.isreg() else b""
        if info.issym():
            link = name.rpartition(b"/")[0] + b"/" + link
        file = tar.fileobj
        assert file is not None
        text = ""
        if info.isreg() and info.size <= most_text(name):
            file.seek(info.offset_data)
            text = file.read(info.size).decode("utf-8", "replace").strip()
        file.seek(info.offset_data - BLOCK)
        place = [info.offset_data, info.size, zlib.crc32(file.read(BLOCK))]
        refused = "a sparse member, whose bytes do not stand together" if info.issparse() else ""
        modified = int(info.mtime * 1e9)
        return Member(name, json.dumps(place), info.size, modified, refused, link, text)


def _end(file: BinaryIO, offset: int) -> str:
    """Say what is wrong with where a tar file ends; it should with blocks of zeros."""
    file.seek(offset)
    block = file.read(BLOCK)
    if not block:
        return f"it ends at byte {offset:,} without the mark of its end: more may have followed"
    if len(block) < BLOCK:
        return f"it ends at byte {offset + len(block):,}, within a header"
    return "" if not any(block) else f"it is damaged at byte {offset:,}: there is no header there"

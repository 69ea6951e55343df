"""What an archive's members are: cells, labels of cells, or neither; and what they are called."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from engines.sources.names import escaped, is_image_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = [
    "CHANGED",
    "ENDS_WITHIN",
    "LABEL",
    "MOST_TEXT",
    "SAID",
    "Format",
    "Member",
    "Problems",
    "cell_name",
    "most_text",
    "webdataset_key",
]

LABEL, SAID = b".cls", b".json"  # members of a WebDataset sample: its class, what else is known
MOST_TEXT = {LABEL: 1_000, SAID: 65_536}  # bytes
CHANGED = "the archive was changed since it was listed"
ENDS_WITHIN = "the archive ends within it"
OUTSIDE = "its name leads out of the archive"


class Member(NamedTuple):
    """
    A member of an archive.

    Attributes:
        name: As the archive has it, in bytes.
        place: Where its bytes are, in the words of the archive's format.
        size: Of its bytes, unpacked.
        modified: In ns since 1970.
        refused: Why it must not be read; empty if it may be.
        link: The member whose bytes it has, if it is a link.
        text: Its content, if it says something of the other members of its sample.
    """

    name: bytes
    place: str
    size: int
    modified: int
    refused: str = ""
    link: bytes = b""
    text: str = ""


@dataclass(slots=True)
class Problems:
    """Where an archive is broken; empty if it is whole."""

    text: str = ""


class Format(Protocol):
    """A format of archives: names their members, and reads one."""

    def members(self, file: BinaryIO, problems: Problems) -> Iterator[Member]:
        """Yield every member that can be found; note in *problems* where the archive breaks."""
        ...

    def read(self, file: BinaryIO, place: str, most_bytes: int) -> bytes:
        """
        Return a member's bytes.

        Raises:
            OSError: If they are not there (any more).
            RefusedCellError: If they are more than *most_bytes*, or damaged.
        """
        ...

    def size(self, file: BinaryIO, place: str) -> int | None:
        """Return how many bytes a member has; None if another member is there now, or none."""
        ...


def cell_name(name: bytes) -> tuple[str, str] | None:
    """
    Return what the cell in a member is called, and why it must not be read; None for no cell.

    Hidden files (macOS puts ``._x.png`` beside ``x.png``) and what lies in hidden folders or in
    ``__MACOSX`` is no cell.
    """
    whole = posixpath.normpath(name)
    parts = whole.replace(b"\\", b"/").split(b"/")
    if not is_image_name(posixpath.basename(whole)):
        return None
    if b".." in parts or whole.startswith(b"/"):
        return escaped(name), OUTSIDE
    if any(part.startswith(b".") or part == b"__MACOSX" for part in parts):
        return None
    return escaped(whole), ""


def most_text(name: bytes) -> int:
    """Return how many bytes a member may have that says something of its sample; 0 for others."""
    return MOST_TEXT.get(posixpath.splitext(name)[1], 0)


def webdataset_key(name: bytes) -> bytes:
    """Return what the members of one sample share: the name up to the first dot."""
    folder, _, last = posixpath.normpath(name).rpartition(b"/")
    return folder + b"/" + last.partition(b".")[0]

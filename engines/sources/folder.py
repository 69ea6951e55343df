"""A folder of cell images, and the folders in it."""

from __future__ import annotations

import os
import stat
from types import MappingProxyType
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.files import read_regular
from engines.sources.base import Entry, Listing, Others
from engines.sources.names import escaped, is_image_name, unescaped
from engines.sources.options import AS_IT_IS, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from engines.cells import CellRef

__all__ = ["FolderSource", "read_regular_file"]

MOST_BYTES = 2**30  # no cell crop is near it, and it fits in memory


class FolderSource:
    """
    A Source (see ``engines.sources.base``) of the image files below a folder.

    A cell is a file with an image extension whose name does not begin with a dot. Links to files
    are followed, links to folders are not; hidden folders are not entered.
    """

    carried: Mapping[str, pa.DataType] = MappingProxyType({})

    def __init__(self, root: Path, options: SourceOptions = AS_IT_IS) -> None:
        """Take what is wanted of what lies below *root*."""
        self._root = os.fsencode(root.resolve())
        self._selection = options.selection
        self.location = escaped(self._root)
        self.locations: tuple[str, ...] = (self.location,)
        self.name = escaped(os.path.basename(self._root)) or "/"

    def list(self) -> Listing:
        """Walk the tree in the order of the paths' bytes, holding one folder's names at a time."""
        others = Others()
        return Listing(self._entries(others), others)

    def read(self, ref: CellRef) -> bytes:
        """Read the file."""
        return read_regular_file(self._file(ref))

    def size(self, ref: CellRef) -> int | None:
        """Ask the file system."""
        facts = _facts(self._file(ref))
        return facts.st_size if facts else None

    def _file(self, ref: CellRef) -> bytes:
        """Name the file on this machine."""
        return os.path.join(self._root, unescaped(ref.locator or ref.path))

    def _entries(self, others: Others) -> Iterator[Entry]:
        """Yield the cells; what is none is counted in *others*."""
        pending = [iter(self._paths(b""))]
        while pending:
            path = next(pending[-1], None)
            if path is None:
                pending.pop()
            elif os.path.basename(path.rstrip(b"/")).startswith(b"."):
                others.add(escaped(path))
            elif path.endswith(b"/"):
                pending.append(iter(self._paths(path)))
            elif (entry := self.entry(path)) and self._selection.wants(entry.path):
                yield entry
            else:
                others.add(escaped(path))

    def _paths(self, folder: bytes) -> Sequence[bytes]:
        """Name what a folder holds, in order of whole paths; the folders in it end in a slash."""
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                return sorted(
                    folder + entry.name + b"/" * entry.is_dir(follow_symlinks=False)
                    for entry in entries
                )
        except OSError as error:
            name = escaped(folder.rstrip(b"/")) or self.location
            raise SourceError(
                f"cannot list the folder {name}: {error.strerror}",
                hint="make it readable, or screen a folder that leaves it out",
            ) from error

    def entry(self, path: bytes) -> Entry | None:
        """
        Return a file as a cell, if it is one; a dangling link is, and will be unreadable.

        Args:
            path: Relative to the folder.
        """
        if not is_image_name(os.path.basename(path)):
            return None
        facts = _facts(os.path.join(self._root, path))
        if facts is None:
            return Entry(escaped(path))
        if not stat.S_ISREG(facts.st_mode):
            return None
        return Entry(escaped(path), "", facts.st_size, facts.st_mtime_ns)


def read_regular_file(path: bytes) -> bytes:
    """
    Read a file, and nothing that only looks like one.

    Raises:
        OSError: If it cannot be read, is a pipe or a device, or is too large to be a cell.
    """
    return read_regular(path, MOST_BYTES)


def _facts(path: bytes) -> os.stat_result | None:
    """Ask the file system about a file, links followed; None if there is no answer."""
    try:
        return os.stat(path)
    except OSError:
        return None

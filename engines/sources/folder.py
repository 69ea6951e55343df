"""A folder of cell images, and the folders in it."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.sources.base import Listing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engines.cells import CellRef

__all__ = ["EXTENSIONS", "FolderSource", "escaped", "unescaped"]

EXTENSIONS = frozenset(b"bmp dib jpg jpeg jpe png tif tiff webp jp2 j2k pgm ppm".split())
EXAMPLES = 5
MOST_BYTES = 2**30  # no cell crop is near it, and it fits in memory
ESCAPE = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def escaped(name: bytes) -> str:
    r"""Turn any bytes into valid Unicode, reversibly: ``\\xNN`` for a byte that is not UTF-8."""
    return name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def unescaped(name: str) -> bytes:
    """Undo ``escaped``."""
    return ESCAPE.sub(
        lambda match: b"\\" if match[1] == b"\\" else bytes([int(match[1][1:], 16)]), name.encode()
    )


class FolderSource:
    """
    A Source (see ``engines.sources``) of the image files below a folder.

    A cell is a file with an image extension whose name does not begin with a dot. Links to files
    are followed, links to folders are not; hidden folders are not entered.
    """

    def __init__(self, root: Path) -> None:
        """Screen what lies below *root*."""
        self._root = os.fsencode(root.resolve())
        self.location = escaped(self._root)
        self.name = escaped(os.path.basename(self._root)) or "/"

    def list(self) -> Listing:
        """Walk the tree; the order is that of the paths' bytes."""
        paths: list[bytes] = []
        ignored = 0
        examples: list[str] = []
        for path, is_cell in self._walk(b""):
            if is_cell:
                paths.append(path)
            else:
                ignored += 1
                if len(examples) < EXAMPLES:
                    examples.append(escaped(path))
        paths.sort()
        return Listing([escaped(path) for path in paths], ignored, examples)

    def read(self, ref: CellRef) -> bytes:
        """Read the file."""
        path = os.path.join(self._root, unescaped(ref.path))
        # Not blocking, so that what became a pipe since it was listed cannot stop the run.
        descriptor = os.open(
            path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
        with open(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(0, "not a regular file")
            if facts.st_size > MOST_BYTES:
                raise OSError(0, f"a file of {facts.st_size:,} bytes, more than {MOST_BYTES:,}")
            return file.read()

    def _walk(self, folder: bytes) -> Iterator[tuple[bytes, bool]]:
        """Yield the path of every file and hidden folder, and whether it is a cell."""
        pending = [folder]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(os.path.join(self._root, folder)) as entries:
                    for entry in entries:
                        path = os.path.join(folder, entry.name)
                        if entry.is_dir(follow_symlinks=False):
                            if entry.name.startswith(b"."):
                                yield path + b"/", False
                            else:
                                pending.append(path)
                        else:
                            yield path, _is_cell(entry)
            except OSError as error:
                raise SourceError(
                    f"cannot list the folder {escaped(folder) or self.location}: {error.strerror}",
                    hint="make it readable, or screen a folder that leaves it out",
                ) from error


def _is_cell(entry: os.DirEntry[bytes]) -> bool:
    """Tell a cell from other files; a dangling link is a cell, which will be unreadable."""
    stem, _, extension = entry.name.rpartition(b".")
    if not stem or stem.startswith(b".") or extension.lower() not in EXTENSIONS:
        return False
    if entry.is_symlink():
        return not os.path.exists(entry.path) or os.path.isfile(entry.path)
    return entry.is_file(follow_symlinks=False)

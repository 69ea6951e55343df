"""Where cells come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engines.errors import SourceError
from engines.sources.base import Listing
from engines.sources.folder import FolderSource

if TYPE_CHECKING:
    from pathlib import Path

    from engines.cells import CellRef

__all__ = ["Listing", "Source", "open_source"]


class Source(Protocol):
    """
    Names cells, and reads them later, in any order and from any thread.

    Attributes:
        location: What identifies it on this machine.
        name: A short name, for cells that lie in no folder of their own.
    """

    location: str
    name: str

    def list(self) -> Listing:
        """
        Name every cell.

        Raises:
            SourceError: If part of the source cannot be listed: a cell must not be lost in silence.
        """
        ...

    def read(self, ref: CellRef) -> bytes:
        """
        Return a cell's encoded bytes.

        Raises:
            OSError: If it cannot be read now.
        """
        ...


def open_source(path: Path) -> Source:
    """
    Open the source at *path*.

    Raises:
        SourceError: If there is none, or of no known kind.
    """
    if not path.exists():
        raise SourceError(f"there is nothing at {path}", hint="check the path of the cells")
    if not path.is_dir():
        raise SourceError(
            f"{path} is a file, not a folder of cells", hint=f"name its folder, {path.parent}"
        )
    return FolderSource(path)

"""Single image files, named one by one, of one folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engines.errors import SourceError
from engines.sources.base import Entry, Listing, Others
from engines.sources.folder import FolderSource
from engines.sources.names import escaped, is_image_name
from engines.sources.options import AS_IT_IS, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from engines.cells import CellRef
    from engines.locations import Location

__all__ = ["ImagesSource", "names_an_image"]


def names_an_image(path: Location) -> bool:
    """Whether a path is that of an image file, going by its name; it may have vanished."""
    return is_image_name(os.fsencode(path.name)) and not path.is_dir()


class ImagesSource:
    """
    A Source (see ``engines.sources.base``) of some image files of one folder.

    They are called, and read, as cells of that folder. One that is not there is a cell without a
    size, which will be unreadable: a run goes on though a file that it was given has vanished.
    """

    carried = FolderSource.carried

    def __init__(
        self, folder: Path, names: Iterable[str], options: SourceOptions = AS_IT_IS
    ) -> None:
        """
        Take the files called *names* in *folder*.

        Raises:
            SourceError: If none of them is there.
        """
        self._folder = FolderSource(folder)
        self._names = sorted({os.fsencode(name) for name in names})
        if not any((folder / os.fsdecode(name)).exists() for name in self._names):
            missing = folder / os.fsdecode(self._names[0])
            raise SourceError(f"there is nothing at {missing}", hint="check the path of the cells")
        self._selection = options.selection
        self.location, self.name = self._folder.location, self._folder.name
        self.locations = self._folder.locations

    def list(self) -> Listing:
        """List them in the order of their names' bytes."""
        others = Others()
        return Listing(self._entries(others), others)

    def read(self, ref: CellRef) -> bytes:
        """Read the file."""
        return self._folder.read(ref)

    def size(self, ref: CellRef) -> int | None:
        """Ask the file system."""
        return self._folder.size(ref)

    def _entries(self, others: Others) -> Iterator[Entry]:
        """Yield the cells that are wanted."""
        for name in self._names:
            entry = self._folder.entry(name)
            if entry is not None and self._selection.wants(entry.path):
                yield entry
            else:
                others.add(escaped(name))

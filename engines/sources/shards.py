"""Files that are one set, numbered as shards are: ``cells-00000.tar``, ``cells-00001.tar``."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from engines.cells import CellRef
from engines.sources.base import Entry, Listing, Others
from engines.sources.columns import columns_of_all, laid_out
from engines.sources.unique import numbered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from engines.locations import Location
    from engines.sources.base import Source

__all__ = ["ShardsSource", "as_sets"]

NUMBERED = re.compile(r"(?P<set>.*?)\d+([-_]of[-_]\d+)?\.(tar|zip|parquet)", re.IGNORECASE)
TRAILING = " -_."


class ShardsSource:
    """
    A Source (see ``engines.sources.base``) of files that are numbered parts of one set.

    Cells keep the names that they have in their file; one that comes again, in the order of the
    files, gets a number: ``a.png#2``. A cell's locator begins with the name of its file.
    """

    def __init__(self, name: str, parts: Mapping[str, Source]) -> None:
        """
        Join the parts of a set.

        Args:
            name: Of the set.
            parts: Its sources, by the names of their files.
        """
        self.name = name
        self._parts = dict(sorted(parts.items()))
        self.location = ", ".join(part.location for part in self._parts.values())
        self.locations = tuple(each for part in self._parts.values() for each in part.locations)

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """What any of the files says of its cells; as text where two differ in the type."""
        return columns_of_all(self._parts.values())

    def list(self) -> Listing:
        """List one file after the other."""
        others = Others()
        paths = (entry.path for part in self._parts.values() for entry in part.list())
        return Listing(numbered(paths, self._entries(others)), others)

    def read(self, ref: CellRef) -> bytes:
        """Let its file read the cell."""
        part, own = self._own(ref)
        return part.read(own)

    def size(self, ref: CellRef) -> int | None:
        """Ask its file."""
        try:
            part, own = self._own(ref)
        except FileNotFoundError:
            return None
        return part.size(own)

    def _own(self, ref: CellRef) -> tuple[Source, CellRef]:
        """Return the file of a cell, and the cell as that file knows it."""
        file, _, locator = ref.locator.partition("/")
        if file not in self._parts:
            raise FileNotFoundError(2, f"there is no file called {file}")
        return self._parts[file], CellRef(ref.path, ref.slide, locator)

    def _entries(self, others: Others) -> Iterator[Entry]:
        """Yield the cells of every file."""
        columns = self.carried
        for file, part in self._parts.items():
            listing, own = part.list(), part.carried
            for entry in listing:
                carried = laid_out(entry.carried, own, columns) if columns else ()
                locator = f"{file}/{entry.locator or entry.path}"
                yield entry._replace(locator=locator, carried=carried)
            others.join(file, listing.others)


def as_sets(opened: Sequence[tuple[Location, Source]]) -> Iterator[Source]:
    """Yield sources; those of one folder whose files differ in a number only are joined."""
    by_set = sorted(opened, key=lambda each: (_set_of(each[0]), str(each[0])))
    for (_, name), group in itertools.groupby(by_set, key=lambda each: _set_of(each[0])):
        members = list(group)
        files = {place.name: source for place, source in members}
        if len(files) > 1 and len(files) == len(members):
            yield ShardsSource(name, files)
        else:
            yield from (source for _, source in members)


def _set_of(place: Location) -> tuple[str, str]:
    """Return folder and name of the set that a file belongs to; of itself if to none."""
    found = NUMBERED.fullmatch(place.name)
    if found is None:
        return str(place), ""
    folder = place.parent.resolve() if isinstance(place, Path) else place.parent
    return str(folder), found["set"].rstrip(TRAILING) or folder.name

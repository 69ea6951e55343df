"""Several sources as one: the name of each stands before the paths of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.cells import CellRef
from engines.errors import SourceError
from engines.sources.base import Entry, Listing, Others
from engines.sources.columns import columns_of_all, laid_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa

    from engines.sources.base import Source

__all__ = ["SeveralSources"]


class SeveralSources:
    """
    A Source (see ``engines.sources.base``) of the cells of several others.

    A source called ``cells`` gives ``cells/a.png`` for its ``a.png``; a second one of that name,
    in the order of where they are, gives ``cells-2/a.png``. So it does not matter in which order
    they are given.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        """
        Join sources.

        Raises:
            SourceError: If one is given twice.
        """
        _refuse_repeats(sources)
        self._sources: dict[str, Source] = {}
        for source in sorted(sources, key=lambda each: each.location):
            self._sources[self._free(source.name.replace("/", "root"))] = source
        self.location = ", ".join(source.location for source in self._sources.values())
        self.locations = tuple(each for one in self._sources.values() for each in one.locations)
        self.name = ""  # no cell lies outside of a folder

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """What any of the sources says of its cells; as text where two differ in the type."""
        return columns_of_all(self._sources.values())

    def list(self) -> Listing:
        """List one source after the other."""
        others = Others()
        return Listing(self._entries(others), others)

    def read(self, ref: CellRef) -> bytes:
        """Let its source read the cell."""
        source, own = self._own(ref)
        return source.read(own)

    def read_ahead(self, refs: Sequence[CellRef]) -> None:
        """Have those of the sources that can fetch several cells at once do so."""
        own: dict[str, list[CellRef]] = {}
        for ref in refs:
            own.setdefault(ref.path.partition("/")[0], []).append(ref)
        for name, cells in own.items():
            if (fetch := getattr(self._sources.get(name), "read_ahead", None)) is not None:
                fetch([self._own(ref)[1] for ref in cells])

    def size(self, ref: CellRef) -> int | None:
        """Ask its source."""
        try:
            source, own = self._own(ref)
        except FileNotFoundError:
            return None
        return source.size(own)

    def _own(self, ref: CellRef) -> tuple[Source, CellRef]:
        """Return the source of a cell, and the cell as that source knows it."""
        name, _, path = ref.path.partition("/")
        if name not in self._sources:
            raise FileNotFoundError(2, f"there is no source called {name}")
        return self._sources[name], CellRef(path, ref.slide, ref.locator)

    def _entries(self, others: Others) -> Iterator[Entry]:
        """Yield the cells of every source."""
        columns = self.carried
        for name, source in self._sources.items():
            listing, own = source.list(), source.carried
            for entry in listing:
                carried = laid_out(entry.carried, own, columns) if columns else ()
                yield entry._replace(path=f"{name}/{entry.path}", carried=carried)
            others.join(name, listing.others)

    def _free(self, name: str) -> str:
        """Return *name*, or with the first number that makes it another than those before."""
        count, free = 1, name
        while free in self._sources:
            count += 1
            free = f"{name}-{count}"
        return free


def _refuse_repeats(sources: Sequence[Source]) -> None:
    """Refuse what would screen the same cells twice."""
    seen: set[tuple[type, str]] = set()
    for source in sources:
        if (key := (type(source), source.location)) in seen:
            raise SourceError(f"{source.location} is given twice", hint="give it once")
        seen.add(key)

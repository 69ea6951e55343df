"""The contract of a source: it lists its cells once, and reads any of them later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pyarrow as pa

    from engines.cells import CellRef

__all__ = ["Entry", "Listing", "Others", "Source"]

EXAMPLES = 5


class Entry(NamedTuple):
    """
    A cell as a source lists it.

    Attributes:
        path: Its name in the results: ``/``-separated, valid Unicode, unique in the source.
        locator: Where in the source its bytes are, in the source's own words; empty where the path
            says it.
        size: Of its bytes; None where that is not known.
        modified: When it was last changed, in ns since 1970; None where that is not known.
        slide: Its slide, where the source says so; empty where its path is to tell.
        carried: What else the source says of it: a value for each of the source's ``carried``.
    """

    path: str
    locator: str = ""
    size: int | None = None
    modified: int | None = None
    slide: str = ""
    carried: tuple[Any, ...] = ()


@dataclass(slots=True)
class Others:
    """
    What a source holds besides cells.

    Attributes:
        count: How many files that are no cells.
        examples: The first few names of those.
        problems: What is wrong with the source as a whole, such as an archive that is cut off.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(name)

    def join(self, name: str, more: Others) -> None:
        """Count those of the source *name*, too."""
        examples = [f"{name}/{each}" for each in more.examples]
        self.examples = [*self.examples, *examples][:EXAMPLES]
        self.count += more.count
        self.problems += more.problems


@dataclass(frozen=True, slots=True)
class Listing:
    """
    The entries of a source, to be iterated over once, in an order that is the same every time.

    Attributes:
        entries: Made while they are asked for, so that any number of cells may be listed.
        others: What else there is; complete when the last entry has been made.
    """

    entries: Iterable[Entry]
    others: Others = field(default_factory=Others)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries."""
        return iter(self.entries)


class Source(Protocol):
    """
    Names cells, and reads them later, in any order and from any thread or process.

    A source can be pickled, and what comes of it reads the same cells in another process. What it
    needs to read a cell is in the cell's locator (or path); files are opened when they are needed.
    A source that can fetch several cells at once may have a method ``read_ahead(refs)``: it is told
    the cells of a batch before they are read, in the process that reads them.

    Attributes:
        location: Where it is, for people.
        locations: What opens the same cells again: paths, bytes that are not UTF-8 escaped.
        name: A short name, for cells that lie in no folder of their own.
    """

    location: str
    locations: tuple[str, ...]
    name: str

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """What it says of its cells that goes into the results: columns by name."""
        ...

    def list(self) -> Listing:
        """
        Name every cell.

        Raises:
            SourceError: While the entries are made, if part of the source cannot be listed: a cell
                must not be lost in silence.
        """
        ...

    def read(self, ref: CellRef) -> bytes:
        """
        Return the encoded bytes of a cell, found by its locator, or by its path if that is empty.

        Raises:
            OSError: If it cannot be read now.
            RefusedCellError: If it is there, but must not be decoded (an OSError, too).
        """
        ...

    def size(self, ref: CellRef) -> int | None:
        """Return how many bytes a cell has now; None if it is not there any more."""
        ...

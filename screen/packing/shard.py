"""What a shard of cells has to do, and what is packed beside the bytes of a cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from engines.errors import SourceError
from engines.sources.tables.columns import PATH_COLUMNS
from engines.sources.tables.rows import BOX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pyarrow as pa

    from engines.sources import Entry, Source

__all__ = ["META", "Cell", "Columns", "Shard"]

META = "meta_"
TAKEN = frozenset((*PATH_COLUMNS, "slide", "sha256", "cell_id", "label"))


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as its source lists it, and its bytes."""

    entry: Entry
    data: bytes


@dataclass(frozen=True, slots=True)
class Columns:
    """
    What a source says of its cells, under the names that a manifest has for it.

    Attributes:
        types: By name; in the order of ``Entry.carried``.
    """

    types: Mapping[str, pa.DataType]

    @classmethod
    def of(cls, source: Source) -> Columns:
        """
        Take those of a source.

        Raises:
            SourceError: If it is one of boxes, or a column would be read as something else.
        """
        if "box_x" in source.carried:
            raise SourceError(
                f"{source.location} has boxes on field images, which are not packed",
                hint="pack the fields, and keep the manifest of the boxes",
            )
        types = {name.removeprefix(META): kind for name, kind in source.carried.items()}
        wrong = [name for name in types if name in TAKEN and f"{META}{name}" in source.carried]
        if wrong or set(BOX) <= types.keys():
            raise SourceError(
                f"{source.location} has a column {(wrong or BOX)[0]} that is carried along, and "
                "would be read as another one from a shard",
                hint="rename it",
            )
        return cls(types)

    def said(self, entry: Entry) -> dict[str, Any]:
        """Return what is known of a cell, its slide included."""
        values = {"slide": entry.slide or None, **dict(zip(self.types, entry.carried, strict=True))}
        return {name: value for name, value in values.items() if value is not None}


class Shard(ABC):
    """A file of cells that is being written, a context in which cells are added."""

    def __init__(self, path: Path, columns: Columns) -> None:
        """Begin a file."""
        self.path, self.columns = path, columns

    def __enter__(self) -> Self:
        """Add cells from here on."""
        return self

    @property
    @abstractmethod
    def size(self) -> int:
        """How many bytes it has so far, roughly."""

    @abstractmethod
    def add(self, cell: Cell) -> None:
        """
        Add a cell.

        Raises:
            SourceError: If it has no place in a file of this format.
        """

    @abstractmethod
    def __exit__(self, *raised: object) -> None:
        """Write what is left, and close the file."""

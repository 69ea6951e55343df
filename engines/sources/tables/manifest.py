"""A manifest: a table of cells, files or boxes on fields, with what is known of each."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engines.cells import RefusedCellError
from engines.errors import SourceError
from engines.sources.base import Entry, Listing, Others
from engines.sources.folder import read_regular_file
from engines.sources.names import escaped
from engines.sources.options import AS_IT_IS, SourceOptions
from engines.sources.tables.box_files import is_box_file
from engines.sources.tables.boxes import FieldCache, box_words, parsed_box
from engines.sources.tables.rows import BOX
from engines.sources.unique import numbered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from engines.cells import CellRef
    from engines.locations import Location
    from engines.sources.tables.rows import ManifestRows

__all__ = ["ManifestSource", "is_manifest"]

LOG = logging.getLogger(__name__)
JSON = '["'  # how a locator begins that is more than a file's name
STATS_KEPT = 1024  # boxes of a field stand together, mostly


class Place(NamedTuple):
    """
    Where a cell is: what its locator says, as JSON where it is more than a file.

    Attributes:
        file: Relative to the manifest's folder.
        sha256: Of the file, in lower-case hex; empty if it is not known.
        box: As ``box_words`` writes it; empty for the whole file.
        margin: Pixels around the box.
    """

    file: str
    sha256: str = ""
    box: str = ""
    margin: int = 0

    @classmethod
    def of(cls, ref: CellRef) -> Place:
        """Read it."""
        locator = ref.locator or ref.path
        return cls(*json.loads(locator)) if locator.startswith(JSON) else cls(locator)

    @property
    def name(self) -> str:
        """What the cell is called."""
        return f"{self.file}#{self.box}" if self.box else self.file

    @property
    def locator(self) -> str:
        """Write it down; empty where it is nothing but the file."""
        if self == Place(self.file) and not self.file.startswith(JSON):
            return ""
        return json.dumps(self, ensure_ascii=False, separators=(",", ":"))


class ManifestSource:
    """
    A Source (see ``engines.sources.base``) of the files, or boxes on files, that a table names.

    A file's name is relative to the manifest's folder. A cell is called as the table writes it;
    a box ``field.jpg#x,y,width,height``.
    """

    def __init__(self, file: Path, options: SourceOptions = AS_IT_IS) -> None:
        """Take the table in *file*; it is read when cells are listed."""
        self._file = file.resolve()
        self._options = options
        self._fields = FieldCache(options.max_pixels)
        self.location = escaped(os.fsencode(self._file))
        self.locations: tuple[str, ...] = (self.location,)
        self.name = escaped(os.fsencode(file.stem))

    def __getstate__(self) -> dict[str, Any]:
        """Travel between processes without what was read of the table."""
        return {name: value for name, value in self.__dict__.items() if name != "_rows"}

    @cached_property
    def _rows(self) -> ManifestRows:
        """The table, or the boxes."""
        from engines.sources.tables.box_check import require_fields
        from engines.sources.tables.box_files import BoxFileRows
        from engines.sources.tables.rows import TableRows

        if is_box_file(self._file):
            return BoxFileRows(self._file)
        rows = TableRows(self._file, self._options.names)
        if rows.boxes:
            if not set(BOX) <= self._options.names.keys():
                require_fields(rows, self._file)
            LOG.info(
                "The rows of %s are boxes on images, as it has the columns x, y, width and height; "
                "--column x= would screen its images whole.",
                self.location,
            )
        return rows

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """What the table says of its cells, but for where they are."""
        return self._rows.carried

    def list(self) -> Listing:
        """List the rows in the order of the table."""
        others = Others()
        return Listing(self._wanted(others), others)

    def read(self, ref: CellRef) -> bytes:
        """Read the file, or cut the box out of it; the SHA-256 has to be the table's."""
        place = Place.of(ref)
        path = self._path(place.file)
        if not place.box:
            return self._checked(path, place)
        facts = os.stat(path)
        key = (path, facts.st_size, facts.st_mtime_ns)
        return self._fields.cut(key, lambda: self._checked(path, place), place.box, place.margin)

    def size(self, ref: CellRef) -> int | None:
        """Ask the file system for the size of the file, the field's where it is a box."""
        place = Place.of(ref)
        facts = _facts(self._path(place.file))
        return facts.st_size if facts else None

    def _path(self, file: str) -> bytes:
        """Name a file on this machine."""
        return os.path.join(os.fsencode(self._file.parent), os.fsencode(file))

    def _checked(self, path: bytes, place: Place) -> bytes:
        """Read a file."""
        data = read_regular_file(path)
        if place.sha256 and (found := hashlib.sha256(data).hexdigest()) != place.sha256:
            reason = f"its SHA-256 is {found}, the manifest says {place.sha256}"
            raise RefusedCellError("undecodable", reason, data)
        return data

    def _wanted(self, others: Others) -> Iterator[Entry]:
        """Yield the cells that are wanted."""
        wants = self._options.selection.wants
        for entry in numbered(self._paths(), self._entries()):
            if wants(entry.path.partition("#")[0] if self._rows.boxes else entry.path):
                yield entry
            else:
                others.add(entry.path)

    def _paths(self) -> Iterator[str]:
        """Yield what the cell of every row is called, before any name gets a number."""
        for number, row in enumerate(self._rows, start=1):
            if not row["path"] or "\0" in row["path"]:
                raise SourceError(
                    f"row {number} of {self.location} names no file",
                    hint="take it out, or say which file it is",
                )
            yield self._place(row).name

    def _entries(self) -> Iterator[Entry]:
        """Yield every row, whatever its name."""
        facts_of = lru_cache(STATS_KEPT)(_facts)
        carried = [name for name in self._rows.carried if not name.startswith("box_")]
        for row in self._rows:
            place = self._place(row)
            facts = facts_of(self._path(place.file))
            said = [row[name] for name in carried]
            yield Entry(
                place.name,
                place.locator,
                facts.st_size if facts else None,
                facts.st_mtime_ns if facts else None,
                row.get("slide") or "",
                (*said, *(_sides(row) if self._rows.boxes else ())),
            )

    def _place(self, row: Mapping[str, Any]) -> Place:
        """Say where the cell of a row is."""
        sha256 = (row.get("sha256") or "").strip().lower()
        if not self._rows.boxes:
            return Place(row["path"], sha256)
        box = box_words([row[name] for name in BOX])
        return Place(row["path"], sha256, box, self._options.box_margin)


def is_manifest(path: Location) -> bool:
    """Whether a file is a table of cells: CSV or Parquet by its name, or a file of boxes."""
    if not (isinstance(path, Path) and path.is_file()):
        return False
    return path.suffix.lower() in (".csv", ".parquet") or is_box_file(path)


def _facts(path: bytes) -> os.stat_result | None:
    """Ask the file system about a file."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _sides(row: Mapping[str, Any]) -> tuple[float | None, ...]:
    """Return a row's box as numbers; None for each of them if it is none."""
    return parsed_box([row[name] for name in BOX]) or (None,) * len(BOX)

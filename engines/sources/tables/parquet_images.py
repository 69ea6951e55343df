"""A Parquet file with images in it as a source, such as Hugging Face's data sets are made of."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engines.cells import RefusedCellError
from engines.errors import SourceError
from engines.sources.base import Entry, Listing, Others
from engines.sources.names import escaped
from engines.sources.options import AS_IT_IS, SourceOptions
from engines.sources.tables.image_columns import ImageColumns, image_column
from engines.sources.tables.image_groups import ImageGroups, open_parquet
from engines.sources.unique import numbered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.cells import CellRef
    from engines.locations import Location

__all__ = ["ParquetImagesSource", "holds_images"]

DAMAGED_HINT = "it may be cut off: copy it again, or write it anew"


def holds_images(place: Location, options: SourceOptions) -> bool:
    """Whether there are images in a Parquet file, going by its columns."""
    return image_column(_schema(place), options.names, place) is not None


class ParquetImagesSource:
    """
    A Source (see ``engines.sources.base``) of the images in a column of a Parquet file.

    A cell is called as a column of paths says, or the path beside its bytes, or ``row-0`` where
    there is none. Its locator is the digest of the file's footer, its group of rows, its row there
    and the SHA-256 that the table says it has, if it does.
    """

    def __init__(self, file: Location, options: SourceOptions = AS_IT_IS) -> None:
        """
        Look at the columns of *file*.

        Raises:
            SourceError: If it cannot be read, or its columns are not clear.
        """
        self._file = file.resolve() if isinstance(file, Path) else file
        self._options = options
        schema = _schema(file)
        image = image_column(schema, options.names, file)
        assert image is not None, "holds_images found one"
        self._columns: ImageColumns = ImageColumns.of(schema, image, options.names, file)
        self._images = ImageGroups(self._file, self._columns.data)
        self.location = escaped(os.fsencode(str(self._file)))
        self.locations: tuple[str, ...] = (self.location,)
        self.name = escaped(os.fsencode(file.stem))

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """What the table says of its cells, but for the images."""
        return self._columns.carried

    def list(self) -> Listing:
        """List the rows in the order of the table; images are not read."""
        others = Others()
        paths = (row["path"] for _, _, row in self._rows())
        return Listing(self._wanted(numbered(paths, self._entries()), others), others)

    def read(self, ref: CellRef) -> bytes:
        """Take the image from its row; the SHA-256 has to be the table's."""
        digest, group, row, sha256 = ref.locator.split(":")
        data = self._images.take(digest, int(group), int(row))
        if data is None:
            raise RefusedCellError("unreadable", "there are no image bytes in its row")
        if sha256 and (found := hashlib.sha256(data).hexdigest()) != sha256:
            raise RefusedCellError(
                "undecodable", f"its SHA-256 is {found}, the table says {sha256}", data
            )
        return data

    def size(self, ref: CellRef) -> int | None:
        """Look into the row."""
        try:
            return len(self.read(ref))
        except OSError:
            return None

    @cached_property
    def _modified(self) -> int | None:
        """When the file was changed last, in ns since 1970; where that is not known, None."""
        return self._file.stat().st_mtime_ns if isinstance(self._file, Path) else None

    def _wanted(self, entries: Iterator[Entry], others: Others) -> Iterator[Entry]:
        """Yield the cells that are wanted."""
        for entry in entries:
            if self._options.selection.wants(entry.path):
                yield entry
            else:
                others.add(entry.path)

    def _entries(self) -> Iterator[Entry]:
        """Yield every row, whatever its name."""
        digest = self._images.digest
        for group, number, row in self._rows():
            sha256 = str(row.get("sha256") or "").strip().lower()
            yield Entry(
                path=row["path"],
                locator=f"{digest}:{group}:{number}:{sha256}",
                modified=self._modified,
                slide=row.get("slide") or "",
                carried=tuple(row[name] for name in self.carried),
            )

    def _rows(self) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """Yield the group, the number there and what is said of every row."""
        count = 0
        try:
            with open_parquet(self._file) as table:
                for group in range(table.num_row_groups):
                    for number, row in enumerate(self._columns.rows(table, group)):
                        row["path"] = row.get("path") or f"row-{count + number}"
                        yield group, number, row
                    count += table.metadata.row_group(group).num_rows
        except (OSError, pa.ArrowException) as error:
            raise _damaged(self._file, error) from error


def _schema(place: Location) -> pa.Schema:
    """Return the columns of a file."""
    try:
        with open_parquet(place) as table:
            return table.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise _damaged(place, error) from error


def _damaged(place: Location, error: Exception) -> SourceError:
    """Return an error about a file that cannot be read."""
    return SourceError(f"cannot read the table {place}: {error}", hint=DAMAGED_HINT)

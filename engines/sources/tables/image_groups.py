"""Images in a Parquet file, read a part of a group of rows at a time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import xxhash
from pyarrow.parquet import ParquetFile

from engines.files import native_file
from engines.sources.remote import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.locations import Location

__all__ = ["CHANGED", "ImageGroups", "open_parquet"]

CHANGED = "the file was changed since it was listed"
ROWS = 32  # read at a time: some 20 MB of the largest crops
MOST_BYTES = 256_000_000  # of images kept in memory
BUFFER_BYTES = 1 << 20
TAIL = 8  # bytes at the end of a file: the length of the footer before it, and a mark


def open_parquet(where: Location) -> ParquetFile:
    """Open a file; what is behind a URL is read where it is asked for, and not as a whole."""
    file = native_file(where) if isinstance(where, Path) else pa.PythonFile(open_file(where))
    try:
        return ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
    except BaseException:
        file.close()
        raise


class Reader(NamedTuple):
    """A group of rows that is being read, and what it will give next."""

    group: int
    part: int
    parts: Iterator[pa.RecordBatch]


class ImageGroups:
    """
    The images of a file, by group and row.

    A group is read from its beginning, in small parts, and the parts read last are kept: so cells
    that are asked for in about the order of the file cost one pass over it, and memory does not
    grow with the size of groups. Safe for any number of threads.
    """

    def __init__(self, where: Location, column: str) -> None:
        """Read the leaf *column* of a file; nothing is opened yet."""
        self._where, self._column = where, column
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._kept: OrderedDict[tuple[int, int], pa.Array] = OrderedDict()
        self._reader: Reader | None = None

    def __reduce__(self) -> tuple[type, tuple[Location, str]]:
        """Travel between processes, closed."""
        return type(self), (self._where, self._column)

    @cached_property
    def _table(self) -> ParquetFile:
        """The file, opened when it is needed."""
        return open_parquet(self._where)

    @cached_property
    def digest(self) -> str:
        """Of the footer, which says where each group is: another file has another."""
        with open_file(self._where) as file:
            file.seek(-TAIL, os.SEEK_END)
            length = int.from_bytes(file.read(4), "little")
            file.seek(-TAIL - length, os.SEEK_END)
            return xxhash.xxh3_64_hexdigest(file.read(length))

    def take(self, digest: str, group: int, row: int) -> bytes | None:
        """
        Return an image's bytes; None if there are none in its row.

        Raises:
            OSError: If the file cannot be read, or is another than the one with this *digest*.
        """
        part, inside = divmod(row, ROWS)
        with self._lock:
            if self._process != os.getpid():
                self.__init__(self._where, self._column)  # type: ignore[misc]
            if self.digest != digest:
                raise OSError(0, CHANGED)
            try:
                found = self._part(group, part)
                value: bytes | None = found[inside].as_py()
            except (pa.ArrowException, IndexError, OSError) as error:
                self._reader = None
                if getattr(error, "errno", None):  # the disk's; Arrow's own have no number
                    raise
                raise OSError(0, f"its group of rows cannot be read: {error}") from error
            return value

    def _part(self, group: int, part: int) -> pa.Array:
        """Return some rows, reading on to them, or from the beginning if they are past."""
        while (group, part) not in self._kept:
            reader = self._reader
            if reader is None or reader.group != group or reader.part > part:
                columns = [self._column]
                rows = self._table.iter_batches(ROWS, [group], columns, use_threads=False)
                reader = Reader(group, 0, rows)
            batch = next(reader.parts, None)
            if batch is None:
                raise IndexError("it has fewer rows")
            self._reader = reader._replace(part=reader.part + 1)
            self._keep((group, reader.part), _leaf(batch.column(0)))
        self._kept.move_to_end((group, part))
        return self._kept[group, part]

    def _keep(self, place: tuple[int, int], images: Any) -> None:
        """Keep the images read last, as far as there is room."""
        self._kept[place] = images
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)


def _leaf(images: pa.Array) -> pa.Array:
    """Return the bytes of a column, or of a struct of them."""
    return images.field(0) if pa.types.is_struct(images.type) else images

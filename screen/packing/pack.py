"""Cells of any source, packed into shards: tar files as WebDataset has them, or Parquet."""

from __future__ import annotations

import itertools
import logging
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from engines.cells import CellRef
from engines.errors import ResultsError, SourceError
from engines.files import files_in, make_folder, whole_file
from engines.locations import access_hint, is_of_the_place, is_url, storage_errors
from screen.packing.parquet_shard import ParquetShard
from screen.packing.shard import Cell, Columns, Shard
from screen.packing.tar_shard import TarShard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from engines.locations import Location
    from engines.sources import Entry, Source

__all__ = ["PackOptions", "Packed", "pack"]

LOG = logging.getLogger(__name__)
SHARDS: dict[str, type[Shard]] = {".tar": TarShard, ".parquet": ParquetShard}
NUMBER = re.compile(r"%(0\d+)?d")
THREADS = 32  # that read: a bucket answers a request in some 20 ms, a cold disk in 5
AHEAD = 128  # cells that are read before it is their turn


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """
    Where cells are packed to, and how.

    Attributes:
        out: A file that ends in .tar or .parquet; with ``%05d`` in its name a file per shard.
        shard_cells: Most cells of a shard.
        shard_bytes: A shard of so many bytes takes no further cell.
        skip_unreadable: Whether to leave out cells that cannot be read.
    """

    out: Location
    shard_cells: int = 10_000
    shard_bytes: int = 10**9
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        """
        Look at the name.

        Raises:
            ResultsError: If it says no format, or more than one number.
        """
        name = self.out.name
        if self.out.suffix.lower() not in SHARDS or "%" in NUMBER.sub("", name, count=1):
            raise ResultsError(
                f"{name} is no name for shards",
                hint="name them cells-%05d.tar or cells-%05d.parquet, %05d being the number of "
                "each; or cells.tar or cells.parquet for one file",
            )

    def path(self, index: int) -> Location:
        """Return where a shard goes."""
        return self.out.with_name(NUMBER.sub(lambda found: found[0] % index, self.out.name))

    def full(self, cells: int, size: int) -> bool:
        """Whether a shard takes no further cell; a single one takes all."""
        several = NUMBER.search(self.out.name) is not None
        return several and (cells >= self.shard_cells or size >= self.shard_bytes)

    def require_free(self) -> None:
        """Raise ResultsError if there are such shards already."""
        pattern = NUMBER.sub("[0-9]*", re.sub(r"([\[\]*?])", r"[\1]", self.out.name))
        if there := files_in(self.out.parent, pattern):
            raise ResultsError(
                f"there is a {there[0]} already", hint="remove it, or choose another name"
            )


@dataclass(slots=True)
class Packed:
    """How far it is: cells packed, their bytes, shards that are whole, cells left out."""

    cells: int = 0
    size: int = 0
    shards: int = 0
    left_out: int = 0


def pack(source: Source, options: PackOptions) -> Iterator[Packed]:
    """
    Pack every cell of a source, in its order and under its path, with what the source says of it.

    A shard appears when it is whole. A generator: nothing happens before it is iterated.

    Args:
        source: Of the cells.
        options: Where to, and how.

    Yields:
        How far it is, after every cell, and once more at the end: one object, brought up to date.

    Raises:
        SourceError: If the source cannot be listed, is one of boxes, holds no cell, or has one
            that cannot be read or has no place in such a shard.
        ResultsError: If there are such shards already, or they cannot be written.
    """
    columns, done = Columns.of(source), Packed()
    with _writing(options.out):
        make_folder(options.out.parent)
        options.require_free()
    cells = _readable(source, options, done)
    for first in cells:
        yield from _filled(options, columns, itertools.chain([first], cells), done)
    if not done.cells:
        raise SourceError(
            f"there is no cell image in {source.location} that could be packed",
            hint="cells are files named .bmp .jpg .png .tif .webp .jp2 and the like",
        )
    yield done


def _filled(
    options: PackOptions, columns: Columns, cells: Iterable[Cell], done: Packed
) -> Iterator[Packed]:
    """Write the next shard, of as many cells as it takes."""
    path = options.path(done.shards)
    kind = SHARDS[path.suffix.lower()]
    with _writing(path), whole_file(path) as scratch, kind(scratch, columns) as shard:
        for count, cell in enumerate(cells, start=1):
            shard.add(cell)
            done.cells += 1
            done.size += len(cell.data)
            yield done
            if options.full(count, shard.size):
                break
    done.shards += 1


def _readable(source: Source, options: PackOptions, done: Packed) -> Iterator[Cell]:
    """Yield the cells that can be read; others are left out, if that is wanted."""
    for entry, coming in _read_ahead(source):
        try:
            yield Cell(entry, coming.result())
        except OSError as error:
            reason = error.strerror or error
            if is_of_the_place(error) or not options.skip_unreadable:
                raise SourceError(
                    f"cannot read {entry.path}: {reason}",
                    hint="mend it, or pass --skip-unreadable: then such cells are named, and left "
                    "out",
                ) from error
            LOG.warning("left out: %s: %s", entry.path, reason)
            done.left_out += 1


def _read_ahead(source: Source) -> Iterator[tuple[Entry, Future[bytes]]]:
    """Yield cells in order, while the next ones are being read."""
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pack")
    pending: deque[tuple[Entry, Future[bytes]]] = deque()
    try:
        for entry in source.list():
            ref = CellRef(entry.path, "", entry.locator)
            pending.append((entry, threads.submit(source.read, ref)))
            if len(pending) > AHEAD:
                yield pending.popleft()
        yield from pending
    finally:
        threads.shutdown(cancel_futures=True)


@contextmanager
def _writing(path: Location) -> Iterator[None]:
    """Raise ResultsError where the system refuses a write."""
    try:
        with storage_errors():
            yield
    except (OSError, pa.ArrowException) as error:
        raise ResultsError(
            f"cannot write {path}: {getattr(error, 'strerror', None) or error}",
            hint=access_hint(path) if is_url(path) else "see to space and permissions",
        ) from error

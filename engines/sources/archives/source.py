"""An archive as a source: its cells are read from their places, whatever its format."""

from __future__ import annotations

import json
import os
import threading
import weakref
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from engines.cells import RefusedCellError
from engines.sources.archives.samples import META, SLIDE
from engines.sources.archives.tar import TarFormat, is_tar
from engines.sources.archives.zip import ZipFormat, is_zip
from engines.sources.base import Entry, Listing, Others
from engines.sources.names import escaped
from engines.sources.options import AS_IT_IS, SourceOptions
from engines.sources.remote import open_file
from engines.sources.unique import numbered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

    from engines.cells import CellRef
    from engines.locations import Location
    from engines.sources.archives.index import ArchiveIndex
    from engines.sources.archives.members import Format

__all__ = ["ArchiveSource", "is_archive"]

START = 512  # bytes that tell what a file is
BYTES_PER_PIXEL = 8  # four samples of 16 bits: a cell of more is refused before it is unpacked
REFUSED, PLAIN = "refused", "at"


def is_archive(place: Location) -> bool:
    """Whether a file is an archive, going by its content."""
    if not place.is_file():
        return False
    with open_file(place) as file:
        start = file.read(START)
    return is_zip(start) or is_tar(start, place.name)


class ArchiveSource:
    """
    A Source (see ``engines.sources.base``) of the images in a tar or zip file.

    A cell is called as its member is. What the ``.cls`` member beside it says, as WebDataset has
    it, is its label; what the ``.json`` member says is what a manifest would say.
    """

    def __init__(self, file: Location, options: SourceOptions = AS_IT_IS) -> None:
        """Take the archive at *file*; it is looked through when cells are listed."""
        self._file = file.resolve() if isinstance(file, Path) else file
        self._options = options
        self._most_bytes = BYTES_PER_PIXEL * options.max_pixels
        self.location = escaped(os.fsencode(str(self._file)))
        self.locations: tuple[str, ...] = (self.location,)
        self.name = escaped(os.fsencode(file.name.partition(".")[0] or file.name))
        self._opened = _OpenedOnce(self._file)

    def __getstate__(self) -> dict[str, Any]:
        """Travel between processes without the index."""
        return {name: value for name, value in self.__dict__.items() if name != "_index"}

    @cached_property
    def _index(self) -> ArchiveIndex:
        """Where the cells are."""
        from engines.sources.archives.index import index_of

        form, file = self._opened.get()
        return index_of(self._file, file, form)

    @property
    def carried(self) -> Mapping[str, pa.DataType]:
        """What the members beside the cells say of them."""
        import pyarrow as pa

        return dict.fromkeys(self._index.names, pa.string())

    def list(self) -> Listing:
        """List the cells in the order of the archive."""
        others = Others(self._index.others.count, [*self._index.others.examples])
        if self._index.problem:
            others.problems.append(f"{self.location}: {self._index.problem}")
        return Listing(self._wanted(others), others)

    def read(self, ref: CellRef) -> bytes:
        """Read the member, or unpack it."""
        kind, place = json.loads(ref.locator)
        if kind == REFUSED:
            raise RefusedCellError("unreadable", place)
        form, file = self._opened.get()
        return form.read(file, place, self._most_bytes)

    def size(self, ref: CellRef) -> int | None:
        """Look at the member's header."""
        kind, place = json.loads(ref.locator)
        if kind == REFUSED:
            return None
        try:
            form, file = self._opened.get()
            return form.size(file, place)
        except OSError:
            return None

    def _wanted(self, others: Others) -> Iterator[Entry]:
        """Yield the cells that are wanted."""
        paths = (path for (path,) in self._index.rows("path"))
        for entry in numbered(paths, self._entries()):
            if self._options.selection.wants(entry.path):
                yield entry
            else:
                others.add(entry.path)

    def _entries(self) -> Iterator[Entry]:
        """Yield every cell, whatever its name."""
        targets = self._index.targets()
        columns = ("path", "place", "size", "modified", "refused", "link", "said")
        names = [name.removeprefix(META) for name in self._index.names]
        for path, place, size, modified, refused, link, text in self._index.rows(*columns):
            found, bytes_ = targets.get(link, (place, size))
            if link is not None and link not in targets:
                why = f"a link to {link}, which is no cell of the archive"
            else:
                why = refused
            locator = [REFUSED, why] if why else [PLAIN, found]
            said = json.loads(text) if text else {}
            yield Entry(
                path,
                json.dumps(locator, ensure_ascii=False),
                None if why else bytes_,
                modified,
                said.get(SLIDE) or "",
                tuple(said.get(name) for name in names),
            )


class _OpenedOnce:
    """An archive, opened once by each thread of each process."""

    def __init__(self, file: Location) -> None:
        """Open nothing yet."""
        self._file = file
        self._local = threading.local()

    def __reduce__(self) -> tuple[type, tuple[Location]]:
        """Travel between processes, closed."""
        return type(self), (self._file,)

    def get(self) -> tuple[Format, BinaryIO]:
        """Return the archive's format, and the file as this thread has it open."""
        if getattr(self._local, "process", None) != os.getpid():
            self._local.opened = _Opened(open_file(self._file))
            self._local.process = os.getpid()
        opened: _Opened = self._local.opened
        return opened.form, opened.file


class _Opened:
    """An open archive; it is closed when nobody has this any more, as when its thread ends."""

    def __init__(self, file: BinaryIO) -> None:
        """Look at what kind of archive it is."""
        weakref.finalize(self, file.close)
        self.file = file
        self.form: Format = ZipFormat() if is_zip(file.read(START)) else TarFormat()
        file.seek(0)

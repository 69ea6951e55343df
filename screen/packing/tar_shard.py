"""Shards as tar files that WebDataset reads: cells, classes in ``.cls``, the rest in ``.json``."""

from __future__ import annotations

import io
import json
import posixpath
import re
import tarfile
from typing import TYPE_CHECKING, Any

from engines.errors import SourceError
from engines.sources.archives.members import cell_name
from engines.sources.names import escaped, is_image_name, unescaped
from screen.packing.shard import Cell, Columns, Shard

if TYPE_CHECKING:
    from pathlib import Path

    from engines.sources import Entry

__all__ = ["TarShard"]

NUMBERED = re.compile(rb"(.+)#\d+")  # the second cell of one name: engines.sources.unique
NANOSECONDS = 10**9


class TarShard(Shard):
    """A tar file; a cell keeps its path and its time of last change, in seconds."""

    def __init__(self, path: Path, columns: Columns) -> None:
        """Begin a file."""
        super().__init__(path, columns)
        # Closed by __exit__.
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._last: tuple[str, dict[str, Any]] = ("", {})

    @property
    def size(self) -> int:
        """How many bytes it has so far."""
        return self._tar.offset

    def add(self, cell: Cell) -> None:
        """Add a cell, and what is known of it."""
        name = _member_name(cell.entry)
        key, said = _sample_key(name), self.columns.said(cell.entry)
        self._require_same(key, said, cell.entry.path)
        seconds = (cell.entry.modified or 0) // NANOSECONDS
        self._write(name, cell.data, seconds)
        if (label := said.pop("label", None)) is not None:
            self._write(f"{key}.cls", str(label).encode(), seconds)
        if said:
            self._write(f"{key}.json", json.dumps(said, ensure_ascii=False).encode(), seconds)

    def __exit__(self, *raised: object) -> None:
        """Write the mark of its end, and close it."""
        self._tar.close()

    def _require_same(self, key: str, said: dict[str, Any], path: str) -> None:
        """Refuse two cells of one sample of which the source says different things."""
        last, self._last = self._last, (key, dict(said))
        if last[0] == key and last[1] != said:
            raise SourceError(
                f"{path} and the cell before it have one name up to its first dot, but the source "
                "does not say the same of both",
                hint="WebDataset takes them for one sample: pack to .parquet, or rename one",
            )

    def _write(self, name: str, data: bytes, seconds: int) -> None:
        """Add a member."""
        member = tarfile.TarInfo(name)
        member.size, member.mtime = len(data), seconds
        self._tar.addfile(member, io.BytesIO(data))


def _member_name(entry: Entry) -> str:
    """
    Return what a cell is called in a tar file, from which it gets its path again when it is read.

    The second cell of a name is called as the first: it gets its number when it is read.

    Raises:
        SourceError: If it would not be found there under that path.
    """
    name = unescaped(entry.path)
    if not is_image_name(posixpath.basename(name)) and (found := NUMBERED.fullmatch(name)):
        name = found[1]
    if cell_name(name) != (escaped(name), ""):
        raise SourceError(
            f"{entry.path} cannot be called so in a tar file: it would lie outside, be hidden, or "
            "be no image by its name",
            hint="pack to .parquet, where a cell may have any name",
        )
    return name.decode("utf-8", "surrogateescape")


def _sample_key(name: str) -> str:
    """Return the name of the sample that WebDataset takes a member for: up to the first dot."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"

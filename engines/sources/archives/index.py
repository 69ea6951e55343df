"""
The index of an archive: where each of its cells is. It is made once, and kept in the cache folder.

An index is found again by the archive's size, its time of last change and a sample of its bytes:
so an archive that moves keeps its index, and one that is written anew gets another.
"""

from __future__ import annotations

import itertools
import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from engines.errors import SourceError
from engines.files import cache_folder, native_file, whole_file
from engines.sources.archives.members import (
    Problems,
    cell_name,
    most_text,
    webdataset_key,
)
from engines.sources.archives.samples import carried_names, said_of
from engines.sources.base import Others
from engines.sources.names import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from engines.locations import Location
    from engines.sources.archives.members import Format, Member

__all__ = ["ArchiveIndex", "index_of"]

LOG = logging.getLogger(__name__)
VERSION = "2"
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("place", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("refused", pa.string()),
        ("link", pa.string()),
        ("said", pa.string()),
    ]
)
GROUP_ROWS = 65_536
SAMPLES, SAMPLE_BYTES = 64, 4096
FACTS = b"slidescreen.archive"


@dataclass(frozen=True, slots=True)
class ArchiveIndex:
    """
    The cells of an archive, in its order.

    Attributes:
        file: A Parquet file with the columns of SCHEMA.
        others: Its other members.
        problem: Where the archive is broken; empty if it is whole.
        names: What the archive says of any of its cells: their slide, their label, and the like.
    """

    file: Path
    others: Others
    problem: str
    names: tuple[str, ...]

    def rows(self, *columns: str) -> Iterator[tuple[Any, ...]]:
        """Yield these columns of every cell."""
        with native_file(self.file) as file, pq.ParquetFile(file) as table:
            for batch in table.iter_batches(GROUP_ROWS, columns=list(columns)):
                yield from zip(*(batch[name].to_pylist() for name in columns), strict=True)

    def targets(self) -> dict[str, tuple[str, int]]:
        """Return the place and size of every cell that a link leads to, by name."""
        wanted = {link for (link,) in self.rows("link") if link is not None}
        if not wanted:
            return {}
        rows = self.rows("path", "place", "size", "link")
        return {
            path: (place, size)
            for path, place, size, link in rows
            if link is None and path in wanted
        }


def index_of(where: Location, file: BinaryIO, form: Format) -> ArchiveIndex:
    """
    Return the index of an archive, made now unless it was made before.

    Args:
        where: The archive.
        file: The same, open to be read.
        form: What kind of archive it is.

    Raises:
        SourceError: If the archive cannot be read, or its index not written.
    """
    folder = cache_folder() / "archives"
    with _reading(where):
        path = folder / f"{_key(where, file)}.parquet"
    if not path.exists():
        LOG.info("Looking for the cells in %s; this is done once.", where)
        with _writing(folder), whole_file(path) as scratch, _reading(where):
            _write(scratch, file, form)
    with native_file(path) as opened:
        facts = json.loads((pq.read_metadata(opened).metadata or {})[FACTS])
    others = Others(facts["others"], facts["examples"])
    return ArchiveIndex(path, others, facts["problem"], carried_names(facts["names"], where))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise SourceError if an index cannot be written to *folder*."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise SourceError(
            f"cannot write the index of an archive to {folder}: {error.strerror or error}",
            hint="set SLIDESCREEN_CACHE to a folder that can be written to",
        ) from error


@contextmanager
def _reading(where: Location) -> Iterator[None]:
    """Raise SourceError if an archive cannot be read."""
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"cannot read the archive {where}: {error}", hint="see to the disk, and try again"
        ) from error


def _key(where: Location, file: BinaryIO) -> str:
    """Return what names an index: size, time and a sample of the bytes; what a storage says."""
    if not isinstance(where, Path):
        return xxhash.xxh3_128_hexdigest(f"{VERSION} {where} {where.fs.ukey(where.path)}".encode())
    size, modified = file.seek(0, 2), where.stat().st_mtime_ns
    digest = xxhash.xxh3_128(f"{VERSION} {size} {modified}".encode())
    for number in range(SAMPLES + 1):
        file.seek(max(0, (size - SAMPLE_BYTES) * number // SAMPLES))
        digest.update(file.read(SAMPLE_BYTES))
    file.seek(0)
    return digest.hexdigest()


def _write(path: Path, file: BinaryIO, form: Format) -> None:
    """Write the index of an archive."""
    others, problems, names = Others(), Problems(), set[str]()
    with (
        native_file(path, "wb") as opened,
        pq.ParquetWriter(opened, SCHEMA, compression="zstd") as writer,
    ):
        rows = _rows(form.members(file, problems), others, names)
        while group := list(itertools.islice(rows, GROUP_ROWS)):
            table = pa.table(list(zip(*group, strict=True)), schema=SCHEMA)
            writer.write_table(table)
        facts = {
            "others": others.count,
            "examples": others.examples,
            "problem": problems.text,
            "names": sorted(names),
        }
        writer.add_key_value_metadata({FACTS.decode(): json.dumps(facts)})


def _rows(members: Iterator[Member], others: Others, names: set[str]) -> Iterator[tuple[Any, ...]]:
    """Yield a row for each cell; the members of one WebDataset sample stand together."""
    for _, group in itertools.groupby(members, key=lambda member: webdataset_key(member.name)):
        sample = list(group)
        said = said_of(sample)
        names.update(said)
        text = json.dumps(said, ensure_ascii=False) if said else None
        for member in sample:
            if (cell := cell_name(member.name)) is not None:
                path, refused = cell
                link = _target(member)
                yield (
                    path, member.place, member.size, member.modified,
                    member.refused or refused, link, text,
                )  # fmt: skip
            elif not most_text(member.name):
                others.add(escaped(member.name))


def _target(member: Member) -> str | None:
    """Return the name of the cell that a link leads to; None if it is no link."""
    if not member.link:
        return None
    target = cell_name(member.link)
    return target[0] if target else escaped(member.link)

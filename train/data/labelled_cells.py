"""
Labelled cells, from the layouts they come in.

* class folders       any depth; a cell's class is the folder that holds it (``fold_0/all/x.bmp``)
* C-NMC 2019          the same, named ``UID_<subject>_<image>_<cell>_<class>``
* its second phase    numbered images and a CSV of ``Patient_ID``, ``new_names``, ``labels``
* a manifest          CSV or Parquet with ``path`` (or ``file``), ``label`` and maybe ``subject``
* any other source    that screening reads: archives, images in Parquet, boxes (``source_cells``)
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import xxhash

from engines.cells import CellRef
from engines.errors import SourceError
from engines.sources import open_source
from engines.sources.folder import FolderSource
from engines.sources.names import CNMC_NAME, unescaped
from engines.sources.options import AS_IT_IS, SourceOptions
from engines.sources.tables.columns import header_of, is_parquet, is_table_name, read_columns
from engines.sources.tables.rows import BOX
from train.data.source_cells import cells_of_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from engines.sources import Source

__all__ = [
    "LabelledCell",
    "content_hashes",
    "limited",
    "open_labelled",
    "subject_of",
    "subject_pattern",
]

PHASE_TWO = ("new_names", "Patient_ID", "labels")
UNSAID = object()
PHASE_TWO_CLASSES = {"1": "all", "0": "hem"}


@dataclass(frozen=True, slots=True)
class LabelledCell:
    """
    One cell of known class.

    Attributes:
        ref: Its path within all sources together, and as its slide the subject, as it is written
            but in C-NMC's file names, which write one subject both ``H3`` and ``h3``: there it is
            upper-case. Empty where it is not known.
        label: Name of its class.
        file: Where its bytes are: its own file, or the archive or table that holds it.
        source: What reads it; None for a file of its own.
        own: What the source knows it by.
    """

    ref: CellRef
    label: str
    file: Path
    source: Source | None = field(default=None, compare=False, repr=False)
    own: CellRef | None = None

    def read(self) -> bytes:
        """
        Return its bytes.

        Raises:
            OSError: If they cannot be read.
        """
        if self.source is None or self.own is None:
            return self.file.read_bytes()
        return self.source.read(self.own)

    @property
    def subject(self) -> str:
        """Whose cell it is."""
        return self.ref.slide


def open_labelled(
    sources: Sequence[Path],
    subject: str = CNMC_NAME.pattern,
    options: SourceOptions = AS_IT_IS,
) -> tuple[LabelledCell, ...]:
    """
    List the labelled cells of all *sources*: of folders and manifests in the order of their paths.

    Behind these come the cells of other sources in their own order, in which they are read best.

    Args:
        sources: Folders, manifests, and whatever else ``slidescreen run`` takes.
        subject: Regular expression searched for in a cell's path, with a group ``subject``; not
            used where a table has a column of that name.
        options: How sources are read, such as what the columns of tables are called.

    Raises:
        SourceError: If a source has no labelled cells, or names a file that is not there.
    """
    pattern = subject_pattern(subject)
    cells: list[LabelledCell] = []
    for source in sources:
        found = list(_cells_of(source, pattern, options))
        if not found:
            raise SourceError(
                f"no labelled cells in {source}",
                hint="give class folders, C-NMC folders, or a manifest with path, label, subject",
            )
        cells.extend(_prefixed(found, source.stem) if len(sources) > 1 else found)
    _refuse_repeats(cells)
    files = sorted((cell for cell in cells if cell.source is None), key=lambda cell: cell.ref.path)
    return (*files, *(cell for cell in cells if cell.source is not None))


def limited(cells: Sequence[LabelledCell], limit: int | None) -> tuple[LabelledCell, ...]:
    """Keep at most *limit* cells, spread evenly over the list, and so over classes and subjects."""
    if limit is None or limit >= len(cells):
        return tuple(cells)
    return tuple(cells[i * len(cells) // limit] for i in range(limit))


def content_hashes(cells: Iterable[LabelledCell]) -> list[str]:
    """Return the xxh3-128 of each cell's bytes in hex; empty for one that cannot be read."""
    return [_content_hash(cell) for cell in cells]


def _content_hash(cell: LabelledCell) -> str:
    """Hash one cell's bytes."""
    try:
        return xxhash.xxh3_128_hexdigest(cell.read())
    except OSError:
        return ""


def subject_pattern(subject: str) -> re.Pattern[str]:
    """Compile the subject rule."""
    try:
        pattern = re.compile(subject)
    except re.error as error:
        raise SourceError(
            f"the subject rule {subject!r} is no regular expression: {error}"
        ) from error
    if "subject" not in pattern.groupindex:
        raise SourceError(
            f"the subject rule {subject!r} has no group named subject",
            hint=r"for example --subject '(?P<subject>[^/]+)/[^/]+$'",
        )
    return pattern


def _cells_of(
    source: Path, pattern: re.Pattern[str], options: SourceOptions
) -> Iterator[LabelledCell]:
    """List one source."""
    if source.is_dir():
        return _cells_of_folder(source, pattern)
    if _is_plain_manifest(source, options):
        return _cells_of_manifest(source, pattern)
    try:
        opened = open_source(source, options)
    except SourceError as error:
        raise SourceError(
            f"{source} is neither a folder nor a manifest nor another source of cells: {error}",
            hint=error.hint,
        ) from error
    return _cells_of_opened(opened, source, pattern)


def _is_plain_manifest(source: Path, options: SourceOptions) -> bool:
    """Whether a file is a table of image files, whose columns are called as usual."""
    if options.columns or not (source.is_file() and is_table_name(source.name)):
        return False
    header = header_of(source)
    return not set(BOX) <= set(header) and not _has_images(source)


def _has_images(table: Path) -> bool:
    """Whether a table holds the images themselves."""
    from engines.sources.tables.parquet_images import holds_images

    return is_parquet(table) and holds_images(table, AS_IT_IS)


def _cells_of_opened(
    opened: Source, file: Path, pattern: re.Pattern[str]
) -> Iterator[LabelledCell]:
    """List an archive, a table with images, boxes, or several of them."""
    for own, label, said in cells_of_source(opened):
        subject = subject_of(own.path, pattern) if said is None else _one_case(said, own.path)
        yield LabelledCell(CellRef(own.path, subject), label, file, opened, own)


def _cells_of_folder(folder: Path, pattern: re.Pattern[str]) -> Iterator[LabelledCell]:
    """List a folder; images that a second-phase CSV names take their labels from it."""
    renamed = _second_phase(folder)
    for entry in FolderSource(folder).list():
        path = entry.path
        file = folder / os.fsdecode(unescaped(path))
        if file.name in renamed:
            original, label = renamed[file.name]
            yield _cell(file, path, label, subject_of(original, pattern))
        elif file.parent != folder or not renamed:
            yield _cell(file, path, file.resolve().parent.name, subject_of(path, pattern))


def _second_phase(folder: Path) -> dict[str, tuple[str, str]]:
    """Return original name and class by file name, from C-NMC second-phase CSVs in *folder*."""
    named: dict[str, tuple[str, str]] = {}
    for file in sorted(folder.rglob("*.csv")):
        if set(header_of(file)) >= set(PHASE_TWO):
            columns = (column.to_pylist() for column in read_columns(file, PHASE_TWO).columns)
            for name, original, label in zip(*columns, strict=True):
                named[name] = (original, PHASE_TWO_CLASSES.get(label, label))
    return named


def _cells_of_manifest(manifest: Path, pattern: re.Pattern[str]) -> Iterator[LabelledCell]:
    """List a manifest; its paths are relative to its own folder."""
    for row in read_columns(manifest, ["path", "label"], ["subject"]).to_pylist():
        path, label = row["path"], row["label"]
        if not (path and label):
            raise SourceError(
                f"{manifest} has a row without path or label: {path or '(no path)'}",
                hint="take such rows out, or say what they are",
            )
        given = row.get("subject", UNSAID)
        subject = subject_of(path, pattern) if given is UNSAID else _one_case(given or "", path)
        yield _cell(manifest.parent / path, path, label, subject)


def subject_of(path: str, pattern: re.Pattern[str]) -> str:
    """Return the subject that a path names, or nothing."""
    found = pattern.search(path)
    return _one_case(found["subject"], path) if found else ""


def _one_case(subject: str, path: str) -> str:
    """Make *subject* upper-case where *path* is named as C-NMC names its files, and only there."""
    return subject.upper() if CNMC_NAME.search(path) else subject


def _cell(file: Path, path: str, label: str, subject: str) -> LabelledCell:
    """Build a cell."""
    return LabelledCell(CellRef(path, subject), label, file)


def _prefixed(cells: list[LabelledCell], name: str) -> list[LabelledCell]:
    """Put the source's name before the paths, so that two sources cannot collide."""
    return [replace(c, ref=CellRef(f"{name}/{c.ref.path}", c.ref.slide)) for c in cells]


def _refuse_repeats(cells: list[LabelledCell]) -> None:
    """Refuse a cell listed twice: it would count twice."""
    repeated = [path for path, n in Counter(cell.ref.path for cell in cells).items() if n > 1]
    if repeated:
        raise SourceError(
            f"{len(repeated)} cells are listed more than once, {repeated[0]} first",
            hint="give each folder once, and each path once in a manifest",
        )

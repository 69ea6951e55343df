"""Labelled cells of archives, tables with images and boxes: any source that screening reads."""

from __future__ import annotations

from posixpath import basename, dirname, splitext
from typing import TYPE_CHECKING, NamedTuple

from engines.cells import CellRef
from engines.errors import SourceError
from engines.sources.names import CNMC_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.sources import Entry, Source

__all__ = ["SourceCell", "cells_of_source"]

LABEL, SUBJECT = "label", "meta_subject"


class SourceCell(NamedTuple):
    """
    A cell of a source.

    Attributes:
        ref: What the source knows it by.
        label: Its class.
        subject: Whose it is, as a column says; None where no column does.
    """

    ref: CellRef
    label: str
    subject: str | None


def cells_of_source(source: Source) -> Iterator[SourceCell]:
    """
    Yield the cells of a source, in its order.

    A cell's class is what the column ``label`` (in WebDataset shards the member ``.cls``) says;
    where there is no such column, the folder that holds it, or the end of C-NMC's file names.

    Raises:
        SourceError: If it has a cell whose class is not known.
    """
    columns = list(source.carried)
    for entry in source.list():
        said = dict(zip(columns, entry.carried, strict=True))
        label = said[LABEL] if LABEL in said else _named(entry)
        if label is None or label == "":
            raise SourceError(
                f"{source.location} does not say of which class {entry.path} is",
                hint="give it a column label (--column label=NAME), .cls members, or folders "
                "named after classes",
            )
        subject = said.get(SUBJECT, "") if SUBJECT in said else None
        ref = CellRef(entry.path, "", entry.locator)
        yield SourceCell(ref, str(label), None if subject is None else str(subject or ""))


def _named(entry: Entry) -> str:
    """Return the class that a cell's name says."""
    if folder := basename(dirname(entry.path)):
        return folder
    match = CNMC_NAME.fullmatch(splitext(basename(entry.path))[0])
    return match["label"] if match else ""

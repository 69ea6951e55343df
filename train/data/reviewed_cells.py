"""Cells that a person gave a class while they reviewed a report: ``review.csv``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engines.cells import CellRef
from engines.errors import SourceError
from engines.sources.names import unescaped
from engines.sources.tables.columns import read_columns
from train.data.labelled_cells import LabelledCell, subject_of, subject_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["open_reviewed"]


def open_reviewed(sources: Sequence[Path], review: Path, subject: str) -> tuple[LabelledCell, ...]:
    """
    List the cells that a review gives a class, in the order of their paths.

    Cells that the person called an artefact, or was unsure of, have none and are left out.

    Args:
        sources: The one folder that was screened.
        review: As the report's page saves it, with columns ``path``, ``verdict`` and ``label``.
        subject: Regular expression searched for in a cell's path, with a group ``subject``.

    Raises:
        SourceError: If there is more than one source, the review gives no cell a class, names one
            twice, or names one that is not in the folder.
    """
    if len(sources) != 1 or not sources[0].is_dir():
        raise SourceError(
            "with a review, CELLS is the one folder that was screened",
            hint="review and calibrate on one folder of cells at a time",
        )
    pattern = subject_pattern(subject)
    cells = {
        path: LabelledCell(CellRef(path, subject_of(path, pattern)), label, file)
        for path, label, file in _rows(sources[0], review)
    }
    if not cells:
        raise SourceError(
            f"{review} gives no cell a class", hint="mark cells in the report: agree or disagree"
        )
    return tuple(cells[path] for path in sorted(cells))


def _rows(folder: Path, review: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield path, class and file of the cells that have a class."""
    seen: set[str] = set()
    for row in read_columns(review, ["path", "verdict", "label"]).to_pylist():
        path, label = row["path"], row["label"]
        if path in seen:
            raise SourceError(f"{review} reviews {path} twice", hint="keep one of the two rows")
        seen.add(path)
        if not (path and label):
            continue
        file = folder / os.fsdecode(unescaped(path))
        if not file.is_file():
            raise SourceError(
                f"{review} reviews {path}, which is not in {folder}",
                hint="CELLS is the folder that was screened",
            )
        yield path, label, file

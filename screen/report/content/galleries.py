"""Which cells the report shows: a bounded number, shared out over the slides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.scan import GALLERIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from screen.report.content.cell_reader import CellRows
    from screen.report.content.columns import Fields
    from screen.summary.top_cells import TopCells

__all__ = ["MOST_CELLS", "Cell", "Galleries", "choose_galleries", "read_cells"]

MOST_CELLS = 4_000  # thumbnails: 25 s of two cores, and some 8 MB
MOST_UNSCORED = 4_000
FAIR_SHARE = 1  # cells of each gallery that every slide gets before any slide gets more
COLUMNS = (
    "path",
    "status",
    "error",
    "content_hash",
    "predicted",
    "positive",
    "prediction_set",
    "abstained",
    "ood_p",
    "evidence",
)


@dataclass(frozen=True, slots=True)
class Galleries:
    """
    The rows shown, by gallery and slide, best first.

    Attributes:
        rows: ``rows[gallery][slide]``; a slide that shows none is absent.
        order: Every row of a scored cell once, in the order in which thumbnails are granted.
    """

    rows: Mapping[str, Mapping[int, Sequence[int]]]
    order: Sequence[int]

    @property
    def all_rows(self) -> list[int]:
        """Every row once, ascending."""
        groups = (group for gallery in self.rows.values() for group in gallery.values())
        return sorted({row for group in groups for row in group})


@dataclass(frozen=True, slots=True)
class Cell:
    """
    A cell that is shown.

    Attributes:
        values: Of ``COLUMNS`` but for evidence, those the results have.
        chances: A probability per class; None if it was not scored.
        evidence: ``(h * w,)`` float32, or None.
    """

    values: dict[str, Any]
    chances: tuple[float, ...] | None
    evidence: NDArray[np.float32] | None = field(default=None, repr=False)


def choose_galleries(top_cells: Mapping[str, TopCells], priority: Sequence[int]) -> Galleries:
    """
    Share the places out.

    First every slide, in order of *priority*, gets the first of each gallery; then each in that
    order gets all of its galleries, for as long as there are places. Cells that could not be
    scored need no picture and have places of their own.
    """
    ranked = {name: each.ranked() for name, each in top_cells.items()}
    unscored = _granted(_wishes({"unscored": ranked.pop("unscored")}, priority), MOST_UNSCORED)
    scored = _granted(_wishes(ranked, priority), MOST_CELLS)
    rows: dict[str, dict[int, list[int]]] = {name: {} for name in GALLERIES}
    for name, slide, row in [*unscored, *scored]:
        rows[name].setdefault(slide, []).append(row)
    return Galleries(rows, list(dict.fromkeys(row for _, _, row in scored)))


def _wishes(
    ranked: Mapping[str, Mapping[int, Sequence[int]]], priority: Sequence[int]
) -> Iterator[tuple[str, int, int]]:
    """Yield gallery, slide and row, those first that should be shown first."""
    for part in (slice(FAIR_SHARE), slice(FAIR_SHARE, None)):
        for slide in priority:
            for name, gallery in ranked.items():
                for row in gallery.get(slide, ())[part]:
                    yield name, slide, row


def _granted(wishes: Iterator[tuple[str, int, int]], most: int) -> list[tuple[str, int, int]]:
    """Take wishes until they name *most* different rows."""
    granted, rows = [], set()
    for wish in wishes:
        rows.add(wish[2])
        if len(rows) > most:
            break
        granted.append(wish)
    return granted


def read_cells(rows: CellRows, chosen: Sequence[int], fields: Fields) -> dict[int, Cell]:
    """Read the *chosen* rows, which ascend."""
    columns = [*fields.those_present(COLUMNS), *fields.probabilities]
    if fields.evidence is None:
        columns = [name for name in columns if name != "evidence"]
    cells: list[Cell] = []
    for batch in rows.take(chosen, columns):
        cells.extend(_cell(row, fields) for row in batch.to_pylist())
    return dict(zip(chosen, cells, strict=True))


def _cell(row: dict[str, Any], fields: Fields) -> Cell:
    """Put one row in shape."""
    chances = tuple(row.pop(name) for name in fields.probabilities)
    evidence = row.pop("evidence", None)
    return Cell(
        values=row,
        chances=None if None in chances else chances,
        evidence=None if evidence is None else np.array(evidence, np.float32),
    )

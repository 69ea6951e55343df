"""Which cells the report shows: a bounded number, each once, shared out over the slides."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from screen.report.content.columns import QUALITY
from screen.report.content.scan import GALLERIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from screen.report.content.cell_reader import CellRows
    from screen.report.content.columns import Fields
    from screen.summary.top_cells import TopCells

__all__ = ["CARRIED", "MOST_CELLS", "Cell", "Galleries", "choose_galleries", "read_cells"]

MOST_CELLS = 4_000  # thumbnails: 25 s of two cores, and some 8 MB
MOST_UNSCORED = 4_000
FEW, LEAD = 3, 6  # pictures beside a flag on the overview: so many before all else, and at most
MORE = ("marked", "sample")  # galleries of cells that are shown in any case
FAIR_SHARE = 1  # cells of each gallery that every slide gets before any slide gets more
COLUMNS = (
    "path",
    "slide",
    "status",
    "error",
    "content_hash",
    "predicted",
    "positive",
    "prediction_set",
    "abstained",
    "ood_score",
    "ood_p",
    "width",
    "height",
    *QUALITY,
    "evidence",
)
CARRIED = "meta_"  # begins the names of columns that a manifest brought along


@dataclass(frozen=True, slots=True)
class Galleries:
    """
    The rows shown, by gallery and slide, best first, each in the first gallery that it is in.

    Attributes:
        rows: ``rows[gallery][slide]``; a slide that shows none is absent.
        lead: By flagged slide, the rows that show on the overview whether its flag is real.
        also: By row, the other galleries it would be in.
        order: Every row of a scored cell once, in the order in which pictures are granted.
    """

    rows: Mapping[str, Mapping[int, Sequence[int]]]
    lead: Mapping[int, Sequence[int]]
    also: Mapping[int, Sequence[str]]
    order: Sequence[int]

    def uses(self, name: str) -> bool:
        """Say whether any cell is in a gallery."""
        return bool(self.rows[name]) or any(name in names for names in self.also.values())

    @property
    def all_rows(self) -> list[int]:
        """Every row once, ascending."""
        unscored = self.rows["unscored"].values()
        return sorted({*self.order, *(row for group in unscored for row in group)})


@dataclass(frozen=True, slots=True)
class Cell:
    """
    A cell that is shown.

    Attributes:
        values: Of ``COLUMNS`` but for evidence, and of what a manifest carried, those that the
            results have.
        chances: A probability per class; None if it was not scored.
        evidence: ``(h * w,)`` float32, or None.
    """

    values: dict[str, Any]
    chances: tuple[float, ...] | None
    evidence: NDArray[np.float32] | None = field(default=None, repr=False)


def choose_galleries(
    top_cells: Mapping[str, TopCells],
    priority: Sequence[int],
    leads: Mapping[int, str],
    more: Mapping[str, Sequence[tuple[int, int]]],
) -> Galleries:
    """
    Share the places out.

    First every slide with a lead, in order of *priority*, gets the few cells that it is about;
    then every slide gets the first of each gallery; then each in that order gets all of its
    galleries, for as long as there are places. Cells that could not be scored need no picture and
    have places of their own.

    Args:
        top_cells: By gallery, the rows of each slide.
        priority: The slides, the most urgent first.
        leads: The gallery of which the overview shows a few cells, of some of those slides.
        more: Slide and row of scored cells that are shown in any case, by the gallery they are in
            if they are in no other.
    """
    ranked = {name: each.ranked() for name, each in top_cells.items()}
    unscored = {"unscored": ranked.pop("unscored")}
    faults = _granted(_wishes(unscored, priority, {}), MOST_UNSCORED)
    scored = _granted(_wishes(ranked, priority, leads), MOST_CELLS)
    others = [(name, *each) for name, pairs in more.items() for each in pairs]
    rows, also = _placed([*faults, *scored, *others])
    granted = {row for _, _, row in scored}
    lead = {
        slide: [row for row in ranked[leads[slide]].get(slide, ())[:LEAD] if row in granted]
        for slide in priority
        if slide in leads
    }
    return Galleries(rows, lead, also, list(dict.fromkeys(row for _, _, row in [*scored, *others])))


def _wishes(
    ranked: Mapping[str, Mapping[int, Sequence[int]]],
    priority: Sequence[int],
    leads: Mapping[int, str],
) -> Iterator[tuple[str, int, int]]:
    """Yield gallery, slide and row, those first that should be shown first."""
    flagged = [slide for slide in priority if slide in leads]
    parts = [
        *((flagged, slice(start, start + 1), True) for start in range(FEW)),
        (priority, slice(FAIR_SHARE), False),
        (flagged, slice(FEW, LEAD), True),
        (priority, slice(None), False),
    ]
    for slides, part, only_lead in parts:
        for slide in slides:
            for name in [leads[slide]] if only_lead else ranked:
                for row in ranked[name].get(slide, ())[part]:
                    yield name, slide, row


def _placed(
    granted: Sequence[tuple[str, int, int]],
) -> tuple[dict[str, dict[int, list[int]]], dict[int, list[str]]]:
    """Put each row into the first of its galleries, and say in which others it would be."""
    rows: dict[str, dict[int, list[int]]] = {name: {} for name in (*GALLERIES, *MORE)}
    names_of_row: dict[int, list[str]] = defaultdict(list)
    for name, by_slide in rows.items():
        for _, slide, row in dict.fromkeys(each for each in granted if each[0] == name):
            if row not in names_of_row:
                by_slide.setdefault(slide, []).append(row)
            names_of_row[row].append(name)
    ranked = {row: [*filter(GALLERIES.get, names[1:])] for row, names in names_of_row.items()}
    return rows, {row: names for row, names in ranked.items() if names}


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
    carried = sorted(name for name in fields.present if name.startswith(CARRIED))
    columns = [*fields.those_present(COLUMNS), *carried, *fields.probabilities]
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

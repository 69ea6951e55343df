"""What a person said of single cells, read from a file, and how often they agree with the model."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.errors import ResultsError
from engines.sources.tables.columns import read_columns
from screen.report.content.accuracy import slide_rate
from screen.summary.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from screen.report.content.columns import Fields

__all__ = ["MOST_MARKS", "VERDICTS", "Agreement", "Mark", "Review", "ReviewedCells", "read_review"]

VERDICTS = ("agree", "disagree", "artefact", "unsure")
MOST_MARKS = 10_000
REVIEW_HINT = "give the review.csv that the report's page saves, with columns path and verdict"


@dataclass(frozen=True, slots=True)
class Mark:
    """
    What a person said of one cell.

    Attributes:
        verdict: One of ``VERDICTS``, about the class that the model predicted; or empty.
        label: The class that the cell is; empty if the person did not say.
        note: Their words.
    """

    verdict: str
    label: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Review:
    """
    A review as it was saved.

    Attributes:
        marks: By the path of the cell.
        name: Of the file, for people.
    """

    marks: Mapping[str, Mark]
    name: str


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    How often a person agrees with the model, of the cells on which they took a side.

    Attributes:
        agreed: Cells whose predicted class the person takes to be right.
        judged: Those, and the cells whose predicted class the person takes to be wrong.
        low: Of the 95% interval of the share agreed on, 0 to 1.
        high: Likewise.
        by_slide: Whether the interval comes from resampling slides; else it is Wilson's, which
            takes cells as independent.
    """

    agreed: int
    judged: int
    low: float
    high: float
    by_slide: bool


def read_review(path: Path, classes: tuple[str, ...]) -> Review:
    """
    Read a review.

    Args:
        path: A CSV or Parquet file with the columns ``path`` and ``verdict``, and maybe ``label``
            and ``note``.
        classes: Of the model.

    Raises:
        SourceError: If the file cannot be read or lacks a column.
        ResultsError: If a row says nothing that a review can say, or a cell is there twice.
    """
    table = read_columns(path, ["path", "verdict"], ["label", "note"])
    rows = table.to_pylist()
    if len(rows) > MOST_MARKS:
        raise ResultsError(
            f"{path} reviews {len(rows):,} cells; a page has room for {MOST_MARKS:,}",
            hint="give the classes of so many cells with --labels",
        )
    marks: dict[str, Mark] = {}
    for row in rows:
        cell = row["path"] or ""
        if cell in marks:
            raise ResultsError(f"{path} reviews {cell} twice", hint="keep one of the two rows")
        marks[cell] = _mark(row, path, classes)
    return Review(marks, path.name)


def _mark(row: Mapping[str, str | None], path: Path, classes: tuple[str, ...]) -> Mark:
    """Return one row's mark."""
    mark = Mark(row["verdict"] or "", row.get("label") or "", row.get("note") or "")
    if not row["path"]:
        raise ResultsError(f"{path} has a row without a path", hint=REVIEW_HINT)
    if mark.verdict not in ("", *VERDICTS) or not (mark.verdict or mark.note):
        raise ResultsError(
            f"{path} says {mark.verdict or 'nothing'} of {row['path']}",
            hint=f"the column verdict holds {', '.join(VERDICTS)}, or nothing beside a note",
        )
    if mark.label and mark.label not in classes:
        raise ResultsError(
            f"{path} calls {row['path']} {mark.label}, which is no class of this model",
            hint=f"the column label holds {', '.join(classes)}, or nothing",
        )
    return mark


@dataclass(slots=True)
class ReviewedCells:
    """
    A review held against the cells of a results folder. S slides.

    Attributes:
        review: As it was saved.
        fields: Of the results.
        slides: S.
        marks: By row, what the person said of the cells that are scored in these results.
        cells: Slide and row of those.
        unscored: Cells of the review that are in these results without a score.
    """

    review: Review
    fields: Fields
    slides: int
    marks: dict[int, Mark] = field(default_factory=dict)
    cells: list[tuple[int, int]] = field(default_factory=list)
    unscored: int = 0
    _predicted: list[int] = field(default_factory=list)
    _wanted: pa.Array = field(init=False)

    def __post_init__(self) -> None:
        """Prepare to look for the paths."""
        self._wanted = pa.array(list(self.review.marks), pa.string())

    def add(
        self,
        paths: pa.Array,
        slide_N: NDArray[Any],
        predicted_N: NDArray[Any],
        row_N: NDArray[Any],
    ) -> None:
        """Look among N cells: path, index of the slide, of the predicted class or -1, row."""
        here = pc.is_in(paths, value_set=self._wanted).to_numpy(zero_copy_only=False)
        for place in np.flatnonzero(here).tolist():
            if predicted_N[place] < 0:
                self.unscored += 1
                continue
            predicted, row = int(predicted_N[place]), int(row_N[place])
            self.marks[row] = self._now(self.review.marks[paths[place].as_py()], predicted)
            self.cells.append((int(slide_N[place]), row))
            self._predicted.append(predicted)

    def _now(self, mark: Mark, predicted: int) -> Mark:
        """Return a mark about what is predicted now: another run may call the cell otherwise."""
        if not mark.label or mark.verdict not in ("agree", "disagree"):
            return mark
        right = mark.label == self.fields.classes[predicted]
        return replace(mark, verdict="agree" if right else "disagree")

    @property
    def missing(self) -> int:
        """How many cells of the review are not in these results."""
        return len(self.review.marks) - len(self.marks) - self.unscored

    @property
    def verdicts(self) -> Counter[str]:
        """How many cells have which verdict."""
        return Counter(mark.verdict for mark in self.marks.values() if mark.verdict)

    def agreement(self, predicted: int | None = None) -> Agreement | None:
        """
        Return how often the person agrees; None if they took no side on such a cell.

        Args:
            predicted: Only cells that the model takes to be of this class, an index.
        """
        judged_S, agreed_S = np.zeros((2, self.slides), np.int64)
        for slide, verdict in self._judged(predicted):
            judged_S[slide] += 1
            agreed_S[slide] += verdict == "agree"
        agreed, judged = int(agreed_S.sum()), int(judged_S.sum())
        rate = slide_rate(agreed_S, judged_S)
        if rate is None:
            return None
        _, low, high = rate
        if np.isnan(low) or low == high:  # few slides, or all agree: slides say nothing of doubt
            return Agreement(agreed, judged, *wilson(agreed, judged), by_slide=False)
        return Agreement(agreed, judged, low, high, by_slide=True)

    def _judged(self, predicted: int | None) -> Iterator[tuple[int, str]]:
        """Yield slide and verdict of the cells on which the person took a side."""
        for (slide, row), called in zip(self.cells, self._predicted, strict=True):
            verdict = self.marks[row].verdict
            if verdict in ("agree", "disagree") and predicted in (None, called):
                yield slide, verdict

"""One pass over all cells: histograms, the cells that stand out, and an even sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engines.cells import OK
from screen.report.content.accuracy import LabelledAccuracy
from screen.report.content.columns import QUALITY
from screen.report.content.review import ReviewedCells
from screen.results.plan import GOLDEN_RATIO
from screen.summary.top_cells import TopCells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.sources.labels import Labels
    from screen.report.content.cell_reader import CellRows
    from screen.report.content.columns import Fields
    from screen.report.content.review import Review

__all__ = ["BINS", "GALLERIES", "SAMPLE_CELLS", "Overview", "scan"]

BINS = 40
SAMPLE_CELLS = 1_000
GALLERIES = {"suspicious": 12, "uncertain": 12, "strange": 12, "unscored": 40}


@dataclass(slots=True)
class Overview:
    """
    What one pass finds. S slides, B bins.

    Attributes:
        histogram: ``(S, B)``, scored cells by probability, in equal bins from 0 to 1.
        top_cells: By gallery, the rows of each slide that stand out most.
        sample: Of the quality columns, ``ood_score`` and ``ood_p``, the values of an even sample.
        sampled: Slide and row of each cell of that sample, by ascending row.
        accuracy: Against labels, if there are any.
        review: What a person said of cells, held against them, if there is a review.
    """

    histogram: NDArray[np.int64]
    top_cells: dict[str, TopCells]
    sample: dict[str, list[NDArray[np.float64]]]
    sampled: list[tuple[int, int]]
    accuracy: LabelledAccuracy | None
    review: ReviewedCells | None


def scan(
    rows: CellRows,
    fields: Fields,
    slides: Sequence[str],
    labels: Labels | None = None,
    review: Review | None = None,
) -> Overview:
    """
    Read every cell once.

    Args:
        rows: The cells.
        fields: What their columns mean.
        slides: Their names, in the order of slides.parquet.
        labels: What the cells are, if it is known.
        review: What a person said of some of them, if there is a review.
    """
    sampled = fields.those_present([*QUALITY, "ood_score", "ood_p"])
    overview = Overview(
        histogram=np.zeros((len(slides), BINS), np.int64),
        top_cells={name: TopCells(count) for name, count in GALLERIES.items()},
        sample={name: [] for name in sampled},
        sampled=[],
        accuracy=None if labels is None else LabelledAccuracy(fields, len(slides)),
        review=None if review is None else ReviewedCells(review, fields, len(slides)),
    )
    names = pa.array(slides, pa.string())
    needed = ["slide", "status", "predicted", "positive", *fields.probabilities, *sampled]
    with_paths = labels is not None or review is not None
    for first, batch in rows.batches(needed + (["path"] if with_paths else [])):
        block = _Block(first, batch, fields, names)
        _add_histogram(overview.histogram, block)
        _add_top_cells(overview.top_cells, block)
        _add_sample(overview, block, len(rows))
        if overview.review is not None:
            overview.review.add(batch["path"], block.slide_N, block.predicted_N, block.row_N)
        if labels is not None and overview.accuracy is not None:
            _add_accuracy(overview.accuracy, block, labels)
    return overview


class _Block:
    """Some rows as arrays."""

    def __init__(self, first: int, batch: pa.RecordBatch, fields: Fields, slides: pa.Array) -> None:
        """Take what every count needs."""
        self.batch = batch
        self.fields = fields
        self.row_N = np.arange(first, first + len(batch))
        self.slide_N = pc.index_in(batch["slide"], value_set=slides).to_numpy(zero_copy_only=False)
        self.scored_N = pc.equal(batch["status"], OK).to_numpy(zero_copy_only=False)
        self.predicted_N = self._predicted()
        self.chances_NC = np.stack([self.numbers(name) for name in fields.probabilities], 1)
        self.chance_N = _shown_chance(self.chances_NC, fields)

    def _predicted(self) -> NDArray[np.int64]:
        """Return the index of each cell's predicted class; -1 if it was not scored."""
        classes = pa.array(self.fields.classes, pa.string())
        found = pc.index_in(self.batch["predicted"], value_set=classes)
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column, nan where null."""
        values = self.batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        return np.asarray(values, np.float64)


def _shown_chance(chances_NC: NDArray[Any], fields: Fields) -> NDArray[np.float64]:
    """Return the probability of the positive class, or else of the most likely one."""
    if fields.positive_index is None:
        return np.asarray(chances_NC.max(axis=1))
    return np.asarray(chances_NC[:, fields.positive_index])


def _doubt(block: _Block) -> NDArray[np.float64]:
    """Return how near each cell is to being called otherwise; larger is nearer."""
    if block.fields.threshold is not None:
        return -np.abs(block.chance_N - block.fields.threshold)
    if block.chances_NC.shape[1] == 1:
        return np.full(len(block.row_N), np.nan)
    two = np.sort(block.chances_NC, axis=1)[:, -2:]
    return two[:, 0] - two[:, 1]


def _add_histogram(histogram_SB: NDArray[Any], block: _Block) -> None:
    """Count scored cells by slide and probability."""
    good = block.scored_N
    place = np.minimum((block.chance_N[good] * BINS).astype(np.int64), BINS - 1)
    np.add.at(histogram_SB, (block.slide_N[good], place), 1)


def _add_top_cells(top_cells: dict[str, TopCells], block: _Block) -> None:
    """Offer the cells to each gallery."""
    values = {
        "uncertain": _doubt(block),
        "unscored": np.where(block.scored_N, np.nan, 0.0),
    }
    if block.fields.positive is not None:
        values["suspicious"] = block.chance_N
    if "ood_score" in block.fields.present:
        values["strange"] = block.numbers("ood_score")
    for name, value_N in values.items():
        top_cells[name].add(block.slide_N, value_N, block.row_N)


def _add_sample(overview: Overview, block: _Block, total: int) -> None:
    """Keep about ``SAMPLE_CELLS`` of all cells: those early in the golden ratio's order."""
    chosen = (block.row_N * GOLDEN_RATIO % 1 < SAMPLE_CELLS / total) & block.scored_N
    pairs = zip(block.slide_N[chosen].tolist(), block.row_N[chosen].tolist(), strict=True)
    overview.sampled.extend(pairs)
    for name, values in overview.sample.items():
        values.append(block.numbers(name)[chosen])


def _add_accuracy(accuracy: LabelledAccuracy, block: _Block, labels: Labels) -> None:
    """Hold the cells against their labels."""
    accuracy.add(
        slide_N=block.slide_N,
        label_N=labels.codes(block.batch["path"].to_pylist()),
        predicted_N=block.predicted_N,
        positive_N=pc.fill_null(block.batch["positive"], False).to_numpy(zero_copy_only=False),
        chance_N=block.chance_N,
    )

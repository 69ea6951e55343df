"""What changes between two runs over the same cells: their calls, and those of slides."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from glob import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ResultsError
from screen.comparison.agreement import Estimate, agreement, kappa
from screen.comparison.slides import SlideChange, changed_slides
from screen.results.folder import ResultsFolder
from screen.results.parts import whole_parts
from screen.results.schema import class_columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from duckdb import DuckDBPyConnection
    from numpy.typing import NDArray

    from screen.results.run_record import RunRecord

__all__ = ["CellChange", "Comparison", "compared"]

JOINED = """
    CREATE TEMP TABLE joined AS
    SELECT a.path AS path_a, b.path AS path_b, a.slide AS slide,
        a.predicted AS predicted_a, b.predicted AS predicted_b,
        a.content_hash IS DISTINCT FROM b.content_hash AS differs,
        b.{score} - a.{score} AS change
    FROM read_parquet($first) AS a FULL JOIN read_parquet($second) AS b ON a.path = b.path
"""
COUNTS = """
    SELECT
        count(*) FILTER (WHERE path_b IS NULL) AS only_first,
        count(*) FILTER (WHERE path_a IS NULL) AS only_second,
        count(*) FILTER (WHERE path_a IS NOT NULL AND path_b IS NOT NULL) AS common,
        count(*) FILTER (WHERE path_a IS NOT NULL AND path_b IS NOT NULL AND differs) AS other_file
    FROM joined
"""
SAME = """
    CREATE TEMP VIEW same AS
    SELECT * FROM joined WHERE path_a IS NOT NULL AND path_b IS NOT NULL AND NOT differs
"""
SCORED = """
    CREATE TEMP VIEW scored AS
    SELECT * FROM same WHERE predicted_a IS NOT NULL AND predicted_b IS NOT NULL
"""
CONFUSIONS = "SELECT slide, predicted_a, predicted_b, count(*) FROM scored GROUP BY ALL"
CHANGES = "SELECT avg(abs(change)), max(abs(change)) FROM scored"
CHANGED = """
    SELECT path_a, slide, predicted_a, predicted_b, change
    FROM same WHERE predicted_a IS DISTINCT FROM predicted_b
    ORDER BY abs(change) DESC NULLS FIRST, path_a
"""


@dataclass(frozen=True, slots=True)
class CellChange:
    """A cell that is called otherwise; *change* is that of the positive class's probability."""

    path: str
    slide: str
    before: str | None
    after: str | None
    change: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    Two runs held against each other.

    Attributes:
        settings: In what the runs differ: name, value in the first, value in the second.
        common: Cells of both runs, by path; only these are compared.
        only_first: Cells of the first run alone; likewise the second.
        other_file: Common cells whose file is not the same in both: left out of what follows.
        compared: Cells that both runs scored.
        agreement: Share of these that both call the same, by slides.
        kappa: Cohen's, of the same.
        mean_change: Mean absolute change of the positive class's probability; None without one.
        most_change: The largest.
        cells: Those called otherwise, scored in one run only included; the largest change first.
        slides: Those flagged otherwise.
        slides_compared: How many slides both runs have.
    """

    settings: list[tuple[str, str, str]]
    common: int
    only_first: int
    only_second: int
    other_file: int
    compared: int
    agreement: Estimate | None
    kappa: Estimate | None
    mean_change: float | None
    most_change: float | None
    cells: list[CellChange]
    slides: list[SlideChange]
    slides_compared: int

    def record(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def compared(first: Path, second: Path) -> Comparison:
    """
    Hold the second run against the first, cell by cell, by path and content.

    Raises:
        ResultsError: If a run is not done or a table of it is damaged, if the models name other
            classes, or if the runs have no cell in common.
    """
    from duckdb import connect

    runs = [ResultsFolder(folder.absolute()) for folder in (first, second)]
    records = [_record(run) for run in runs]
    _require_same_classes(*records)
    with connect() as database:
        _join(database, runs, records)
        cells = _cell_figures(database, records[0].model.classes)
    if cells["common"] == cells["other_file"]:
        raise ResultsError(
            f"{first} and {second} have no cell in common, so nothing can be compared",
            hint="compare runs over the same cells: the same paths and files",
        )
    slides, slides_compared = changed_slides(runs, records)
    return Comparison(
        settings=_settings(*records), slides=slides, slides_compared=slides_compared, **cells
    )


def _join(
    database: DuckDBPyConnection, runs: Sequence[ResultsFolder], records: Sequence[RunRecord]
) -> None:
    """Put the cells of both runs side by side, by path."""
    files = [_parts(run, record) for run, record in zip(runs, records, strict=True)]
    joined = JOINED.format(score=_score(records[0]))
    database.execute(joined, {"first": files[0], "second": files[1]})
    database.execute(SAME)
    database.execute(SCORED)


def _cell_figures(database: DuckDBPyConnection, classes: Sequence[str]) -> dict[str, Any]:
    """Return what is said of cells: the fields of ``Comparison`` of the same names."""
    only_first, only_second, common, other_file = _row(database, COUNTS)
    counts_SCC = _confusions(database, classes)
    mean, most = _row(database, CHANGES)
    return {
        "common": common,
        "only_first": only_first,
        "only_second": only_second,
        "other_file": other_file,
        "compared": int(counts_SCC.sum()),
        "agreement": agreement(counts_SCC),
        "kappa": kappa(counts_SCC),
        "mean_change": mean,
        "most_change": most,
        "cells": [CellChange(*row) for row in database.execute(CHANGED).fetchall()],
    }


def _record(run: ResultsFolder) -> RunRecord:
    """Return run.json of a run that is done."""
    record = run.read_run()
    if record is None or record.state != "done":
        raise ResultsError(
            f"{run.path} holds no run that is done",
            hint="run it to its end first: the same command goes on",
        )
    return record


def _require_same_classes(first: RunRecord, second: RunRecord) -> None:
    """Refuse models whose calls do not mean the same."""
    sides = [(sorted(record.model.classes), record.model.positive) for record in (first, second)]
    if sides[0] != sides[1]:
        raise ResultsError(
            f"the models of the two runs name other classes: {list(first.model.classes)}, positive "
            f"{first.model.positive}, and {list(second.model.classes)}, positive "
            f"{second.model.positive}",
            hint="compare runs of models with the same classes",
        )


def _parts(run: ResultsFolder, record: RunRecord) -> list[str]:
    """Name the parts, each of them whole, for DuckDB, which takes names for patterns."""
    return [escape(str(part)) for part in whole_parts(run, record.fingerprint.digest)]


def _score(record: RunRecord) -> str:
    """Name the column of which changes are told: the positive class's, or the first class's."""
    model = record.model
    (name,) = class_columns([model.positive or model.classes[0]])
    return f'"prob_{name}"'


def _row(database: DuckDBPyConnection, query: str) -> Any:
    """Return the one row that a query has."""
    return database.execute(query).fetchall()[0]


def _confusions(database: DuckDBPyConnection, classes: Sequence[str]) -> NDArray[np.int64]:
    """Return ``(S, C, C)``: by slide, how often each pair of calls was made."""
    rows = database.execute(CONFUSIONS).fetchall()
    slides = {name: number for number, name in enumerate(sorted({row[0] for row in rows}))}
    counts = np.zeros((len(slides), len(classes), len(classes)), np.int64)
    for slide, before, after, count in rows:
        counts[slides[slide], classes.index(before), classes.index(after)] = count
    return counts


def _settings(first: RunRecord, second: RunRecord) -> list[tuple[str, str, str]]:
    """Return in what the two runs differ."""
    pairs = {
        name: (str(value), str(asdict(second.fingerprint)[name]))
        for name, value in asdict(first.fingerprint).items()
    }
    pairs |= {
        "decoder version": (first.decoder, second.decoder),
        "runtime version": (first.runtime, second.runtime),
        "thresholds of flags": (str(first.flags), str(second.flags)),
    }
    return [(name, *values) for name, values in pairs.items() if values[0] != values[1]]

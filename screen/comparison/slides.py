"""Slides that are flagged otherwise in a second run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from screen.results.table_records import check_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from screen.results.folder import ResultsFolder
    from screen.results.run_record import RunRecord

__all__ = ["SlideChange", "changed_slides"]


@dataclass(frozen=True, slots=True)
class SlideChange:
    """A slide that is flagged otherwise, with its share of positive cells in either run."""

    slide: str
    before: list[str]
    after: list[str]
    share_before: float | None
    share_after: float | None


def changed_slides(
    runs: Sequence[ResultsFolder], records: Sequence[RunRecord]
) -> tuple[list[SlideChange], int]:
    """Return the slides of both runs that are flagged otherwise, and how many both have."""
    tables = []
    for run, record in zip(runs, records, strict=True):
        check_table(run, run.slides, record.fingerprint.digest)
        tables.append({row["slide"]: row for row in run.read_slides()})
    before, after = tables
    both = [name for name in before if name in after]
    changed = [
        SlideChange(
            name,
            before[name]["flags"],
            after[name]["flags"],
            _share(before[name]),
            _share(after[name]),
        )
        for name in both
        if before[name]["flags"] != after[name]["flags"]
    ]
    return changed, len(both)


def _share(row: dict[str, Any]) -> float | None:
    """Return a slide's share of positive cells, corrected where it can be."""
    corrected = row.get("fraction_positive_rogan_gladen")
    share: float | None = row["fraction_positive"] if corrected is None else corrected
    return share

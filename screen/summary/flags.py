"""Why a person should look at a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Thresholds", "flags"]

MOST_UNREADABLE = 0.2  # of a slide's cells
MOST_STRANGE = 0.5  # of its scored cells; likewise of those abstained from


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """
    From where a slide is flagged.

    Attributes:
        fraction: Share of positive cells, corrected for the model's errors where they are known.
        cells: A slide of fewer scored cells is too small to tell.
        ood_level: A cell is out of distribution if at most this share of held-out cells is as
            strange.
    """

    fraction: float = 0.2
    cells: int = 50
    ood_level: float = 0.01

    def __post_init__(self) -> None:
        """Refuse thresholds that mean nothing."""
        if not (0 <= self.fraction <= 1 and 0 <= self.ood_level <= 1):
            raise ValueError(f"fraction and ood_level must lie between 0 and 1, got {self}")
        if self.cells < 1:
            raise ValueError(f"cells must be at least 1, got {self.cells}")


def flags(row: Mapping[str, Any], positive: str | None, thresholds: Thresholds) -> list[str]:
    """Return the reasons to look at a slide; *row* is its row of slides.parquet so far."""
    scored, share = row["n_ok"], row["fraction_positive_rogan_gladen"]
    share = row["fraction_positive"] if share is None else share
    reasons = {
        f"{positive} above threshold": share is not None and share >= thresholds.fraction,
        "too few cells": scored < thresholds.cells,
        "too many unreadable": row["n_cells"] - scored > MOST_UNREADABLE * row["n_cells"],
        "mostly out of distribution": (row["n_out_of_distribution"] or 0) > MOST_STRANGE * scored,
        "mostly abstained": (row["n_abstained"] or 0) > MOST_STRANGE * scored,
    }
    return [reason for reason, holds in reasons.items() if holds]

"""
Why a person should look at a slide.

``slides.parquet`` keeps each reason as a code that programs can select by; people read its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "ABSTAINED",
    "FLAGS",
    "LIMITS",
    "STRANGE",
    "Thresholds",
    "flag_meanings",
    "flag_words",
    "flags",
    "needs_a_look",
]

POSITIVE = "positive_above_threshold"
TOO_FEW = "too_few_cells"
UNSCORED = "many_unscored"
STRANGE = "mostly_out_of_distribution"
ABSTAINED = "mostly_abstained"

FLAGS = {
    POSITIVE: "share of {positive} above the threshold",
    TOO_FEW: "too few cells",
    UNSCORED: "many cells not scored",
    STRANGE: "mostly unlike the training cells",
    ABSTAINED: "mostly left open by the model",
}

LIMITS = frozenset([TOO_FEW])  # what limits a slide's figures, and is no reason to look at it

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


def flags(row: Mapping[str, Any], thresholds: Thresholds) -> list[str]:
    """Return the codes of ``FLAGS`` that hold; *row* is a slide's row of slides.parquet so far."""
    scored, share = row["n_ok"], row["fraction_positive_rogan_gladen"]
    share = row["fraction_positive"] if share is None else share
    reasons = {
        POSITIVE: share is not None and share >= thresholds.fraction,
        TOO_FEW: scored < thresholds.cells,
        UNSCORED: row["n_cells"] - scored > MOST_UNREADABLE * row["n_cells"],
        STRANGE: (row["n_out_of_distribution"] or 0) > MOST_STRANGE * scored,
        ABSTAINED: (row["n_abstained"] or 0) > MOST_STRANGE * scored,
    }
    return [reason for reason, holds in reasons.items() if holds]


def needs_a_look(codes: Iterable[str]) -> bool:
    """Say whether there is a reason to look at a slide among *codes*, not only a limit."""
    return any(code not in LIMITS for code in codes)


def flag_words(code: str, positive: str | None) -> str:
    """
    Say in words why a slide is flagged.

    Args:
        code: One of ``FLAGS``; any other text is returned as it is.
        positive: The display name of the positive class.
    """
    return FLAGS[code].format(positive=positive) if code in FLAGS else code


def flag_meanings(positive: str | None, thresholds: Thresholds) -> dict[str, str]:
    """Explain each flag in a sentence, by its words; *positive* is the class's display name."""
    meanings = {
        POSITIVE: f"The estimated share of {positive} is {thresholds.fraction:.0%} or more.",
        TOO_FEW: f"Fewer than {thresholds.cells} cells of the slide were scored, so its share is "
        "uncertain whatever the cells look like. This alone is no reason to look at the slide.",
        UNSCORED: f"More than {MOST_UNREADABLE:.0%} of the slide's cells could not be read or "
        "decoded.",
        STRANGE: "More than half of the scored cells are out of distribution, so what the model "
        "says of the slide means little.",
        ABSTAINED: "For more than half of the scored cells the model cannot settle on one class.",
    }
    if positive is None:
        del meanings[POSITIVE]
    return {flag_words(code, positive): meaning for code, meaning in meanings.items()}

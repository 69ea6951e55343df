"""The slides as the report lists them: the ones to look at first come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.cells import OK, STATUSES
from screen.report.formatting import count, percent, plural, shown
from screen.results.schema import class_columns
from screen.summary.flags import ABSTAINED, LIMITS, STRANGE, flag_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from screen.report.content.columns import Fields

__all__ = ["METHODS", "Share", "SlideRow", "interval_method", "slide_rows", "usual_lead"]

CORRECTED, CALLED = "rogan_gladen", "wilson"
METHODS = {
    CORRECTED: "corrected for the model's error (Rogan-Gladen), with its 95% interval",
    CALLED: "as called, with the 95% Wilson interval, which takes cells as independent and the "
    "model as right: read it as a lower bound of the doubt",
}

LEADS = {STRANGE: "strange", ABSTAINED: "uncertain"}

TRAINED_ON = (
    "named like a person whom the model was trained on: if it is the same person, the figures of "
    "this slide are better than they would be of anyone new"
)


@dataclass(frozen=True, slots=True)
class Share:
    """
    A share of positive cells and its 95% interval, each 0 to 1.

    Attributes:
        value: The estimate; None where only the interval is known.
        low: Of the interval.
        high: Likewise.
    """

    value: float | None
    low: float
    high: float

    @property
    def text(self) -> str:
        """The estimate and its interval."""
        value = "unknown" if self.value is None else percent(self.value)
        return f"{value} ({percent(self.low)} to {percent(self.high)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideRow:
    """
    One slide.

    Attributes:
        index: Its row in slides.parquet.
        name: Fit to be shown.
        cells: How many.
        scored: How many of them.
        counts: Scored cells by predicted class.
        called: How many are called positive; None without a positive class.
        share: Of positive cells; None if there is none to state.
        abstained: Cells the model leaves open; None without trust data.
        strange: Cells out of distribution; likewise.
        duplicates: Cells that are copies of an earlier file.
        flags: Why to look at this slide first.
        limits: What limits its figures, without being a reason to look at it.
        lead: The gallery that shows whether its first flag is real; empty if it has none.
        trained_on: Whether it is named like a person whom the model was trained on.
        by_status: Cells that could not be scored, by status.
    """

    index: int
    name: str
    cells: int
    scored: int
    counts: tuple[int, ...]
    called: int | None
    share: Share | None
    abstained: int | None
    strange: int | None
    duplicates: int | None
    flags: tuple[str, ...]
    limits: tuple[str, ...]
    lead: str
    trained_on: bool
    by_status: Mapping[str, int]

    @property
    def unscored(self) -> int:
        """How many cells could not be scored."""
        return self.cells - self.scored

    @property
    def called_share(self) -> float | None:
        """The share of scored cells that is called positive."""
        return self.called / self.scored if self.called is not None and self.scored else None

    def part(self, some: int | None) -> float | None:
        """Return *some* cells as a share of those scored."""
        return None if some is None or not self.scored else some / self.scored

    def facts(self, fields: Fields) -> list[tuple[str, str]]:
        """Say in pairs of words what is known of the slide."""
        unscored = [f"{count(some)} {name}" for name, some in self.by_status.items() if some]
        called = f"{count(self.called or 0)} of {count(self.scored)}"
        pairs = [
            ("Cells", plural(self.cells, "cell")),
            ("Not scored", ", ".join(unscored) or "none"),
            ("Predicted class", self.counts_text(fields)),
            (f"Called {fields.positive_words}", called if self.called is not None else ""),
            ("Estimated share", self.share.text if self.share else ""),
            ("Left open by the model", self._of_scored(self.abstained)),
            ("Out of distribution", self._of_scored(self.strange)),
            ("Trained on", TRAINED_ON if self.trained_on else ""),
            ("Copies of another file", count(self.duplicates or 0) if self.duplicates else ""),
        ]
        return [(term, text) for term, text in pairs if text]

    def counts_text(self, fields: Fields) -> str:
        """Return how many cells of which class, the commonest first."""
        pairs = sorted(zip(fields.classes, self.counts, strict=True), key=lambda pair: -pair[1])
        return ", ".join(
            f"{fields.words(name)} {count(number)}" for name, number in pairs if number
        )

    def _of_scored(self, some: int | None) -> str:
        """Return a count and its share."""
        return "" if some is None else f"{count(some)} ({percent(self.part(some))} of those scored)"


def interval_method(slides: Sequence[Mapping[str, Any]]) -> str:
    """Return the method of the intervals that all slides can show: corrected, if there is any."""
    name = f"fraction_positive_{CORRECTED}95_low"
    corrected = any(slide.get(name) is not None for slide in slides)
    return CORRECTED if corrected else CALLED


def slide_rows(slides: Sequence[Mapping[str, Any]], fields: Fields) -> list[SlideRow]:
    """Return the slides, flagged ones first, then by the low end of the interval, then by name."""
    method = interval_method(slides)
    rows = [_row(index, slide, fields, method) for index, slide in enumerate(slides)]
    return sorted(rows, key=_urgency)


def _urgency(row: SlideRow) -> tuple[bool, float, float, str]:
    """Sort what should be seen first to the front."""
    share = row.share or Share(None, -1.0, -1.0)
    return not row.flags, -share.low, -(share.value or share.low), row.name


def _row(index: int, slide: Mapping[str, Any], fields: Fields, method: str) -> SlideRow:
    """Put one slide in shape."""
    return SlideRow(
        index=index,
        name=shown(slide["slide"]),
        cells=slide["n_cells"],
        scored=slide["n_ok"],
        counts=tuple(slide[f"count_{name}"] for name in class_columns(fields.classes)),
        called=slide["n_positive"] if fields.positive is not None else None,
        share=_share(slide, method),
        abstained=slide.get("n_abstained"),
        strange=slide.get("n_out_of_distribution"),
        duplicates=slide.get("n_duplicates"),
        flags=tuple(_flag(code, fields) for code in slide["flags"] if code not in LIMITS),
        limits=_limits(slide, fields),
        lead=_lead(slide["flags"], fields),
        trained_on=bool(slide.get("trained_on")),
        by_status={status: slide[f"n_{status}"] for status in STATUSES if status != OK},
    )


def _flag(code: str, fields: Fields) -> str:
    """Say in words why a slide is flagged."""
    return shown(flag_words(code, fields.positive_words))


def usual_lead(fields: Fields) -> str:
    """Return the gallery that shows most of a slide."""
    return "uncertain" if fields.positive is None else "suspicious"


def _lead(codes: Sequence[str], fields: Fields) -> str:
    """Return the gallery that shows whether the first flag is real; empty without a flag."""
    first = next((code for code in codes if code not in LIMITS), None)
    return "" if first is None else LEADS.get(first, usual_lead(fields))


def _limits(slide: Mapping[str, Any], fields: Fields) -> tuple[str, ...]:
    """Say in words what limits a slide's figures."""
    words = [_flag(code, fields) for code in slide["flags"] if code in LIMITS]
    return (*words, *(["trained on"] if slide.get("trained_on") else []))


def _share(slide: Mapping[str, Any], method: str) -> Share | None:
    """Return the share by *method*."""
    name = "fraction_positive" + (f"_{method}" if method == CORRECTED else "")
    low = slide.get(f"fraction_positive_{method}95_low")
    high = slide.get(f"fraction_positive_{method}95_high")
    return None if low is None or high is None else Share(slide.get(name), low, high)

"""What came out and what to beware of, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from screen.report.formatting import count, p_value, percent, plural, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from screen.report.content.columns import Fields
    from screen.report.content.pictures import PictureCounts
    from screen.report.content.slide_rows import SlideRow
    from screen.results.run_record import RunRecord

__all__ = [
    "QUALITY_WORDS",
    "Tile",
    "cell_lines",
    "classes_sentence",
    "gallery_words",
    "shown_sentence",
    "tiles",
    "warnings",
]

GALLERY_TITLES = {
    "suspicious": "Most suspicious",
    "uncertain": "Most uncertain",
    "strange": "Least like the training cells",
    "marked": "Other cells of the review",
    "sample": "An even sample",
}
QUALITY_WORDS = {
    "focus": "Focus (sharpness of the foreground)",
    "exposure": "Exposure (brightness of the foreground)",
    "clipped": "Clipped (share of saturated pixels)",
    "foreground": "Foreground (share of the picture)",
    "stain_shift": "Stain shift (distance from training)",
}


@dataclass(frozen=True, slots=True)
class Tile:
    """A number at the top of the page."""

    title: str
    value: str
    note: str


def classes_sentence(fields: Fields) -> str:
    """Say which classes there are, and what tables call them."""
    words = " or ".join(map(fields.words, fields.classes))
    short = " and ".join(shown(name) for name in fields.classes)
    return (
        f"The model takes every cell to be one of these classes: {words}. "
        f"In the tables they are called {short}."
    )


def _is(number: int) -> str:
    """Return the verb that goes with a number of cells."""
    return "is" if number == 1 else "are"


def tiles(record: RunRecord, slides: Sequence[SlideRow], fields: Fields) -> list[Tile]:
    """Return the verdict in numbers."""
    cells = sum(row.cells for row in slides)
    scored = sum(row.scored for row in slides)
    flagged = sum(bool(row.flags) for row in slides)
    found = [
        Tile("Slides", count(len(slides)), f"{count(flagged)} to look at"),
        Tile("Cells", count(cells), f"{count(scored)} scored, {count(cells - scored)} not"),
    ]
    if fields.positive is not None:
        called = sum(row.called or 0 for row in slides)
        note = f"{percent(called / scored)} of those scored" if scored else "none was scored"
        found.append(Tile(f"Called {fields.positive_words}", count(called), note))
    found.extend(_trust_tiles(record, slides, scored))
    return found


def _trust_tiles(record: RunRecord, slides: Sequence[SlideRow], scored: int) -> Iterator[Tile]:
    """Yield what is known of doubt."""
    for title, numbers, why in (
        (
            "Left open by the model",
            [row.abstained for row in slides],
            f", at {record.fingerprint.coverage:.0%} coverage",
        ),
        ("Out of distribution", [row.strange for row in slides], ""),
    ):
        known = [number for number in numbers if number is not None]
        if known:
            share = percent(sum(known) / scored) if scored else "none"
            yield Tile(title, count(sum(known)), f"{share} of those scored{why}")


def warnings(
    record: RunRecord, slides: Sequence[SlideRow], fields: Fields, pictures: PictureCounts
) -> list[str]:
    """Return what a reader must know first, a sentence or two each."""
    drift = record.drift.sentence if record.drift else ""  # has a place of its own
    said = [text for text in record.warnings if text != drift]
    said.extend(_run_warnings(record, fields))
    unscored = sum(row.unscored for row in slides)
    if unscored:
        said.append(
            f"{plural(unscored, 'cell')} could not be scored and {_is(unscored)} left out of every "
            "share. Each slide lists its own, with the reasons."
        )
    copies = sum(row.duplicates or 0 for row in slides)
    if copies:
        said.append(
            f"{plural(copies, 'cell')} {_is(copies)} byte-for-byte the same as another file, and "
            f"{_is(copies)} counted again in every share."
        )
    said.extend(_picture_warnings(record, pictures))
    return [shown_sentence(text) for text in dict.fromkeys(said)]


def shown_sentence(text: str) -> str:
    """Make a sentence of ours that quotes foreign text fit to be shown, uncut."""
    return " ".join(shown(word) for word in text.split())


def _run_warnings(record: RunRecord, fields: Fields) -> Iterator[str]:
    """Yield what is to be said of the run as a whole."""
    if record.parity.verdict != "agrees":
        yield f"Decoder and model were not compared with the reference: parity {record.parity}."
    if not record.trust.available and not record.warnings:
        yield f"No uncertainty and no distance from the training data: {record.trust.why}"
    if fields.positive is None:
        yield "This model has no positive class: no cell is called, and slides have no share."
    unmatched = record.counts.unmatched if record.counts else 0
    if unmatched:
        yield (
            f"{plural(unmatched, 'cell')} {_is(unmatched)} in the slide (unmatched): the slide "
            "rule finds no slide in the name."
        )


def _picture_warnings(record: RunRecord, pictures: PictureCounts) -> Iterator[str]:
    """Yield why cells are shown without a picture."""
    if pictures.folder_gone:
        yield (
            f"The folder of cells, {record.source.location}, cannot be found: cells are listed "
            "without pictures. If the folder was moved, pass --source."
        )
        return
    for number, what in (
        (pictures.changed, "because the file is not the one that was screened"),
        (pictures.gone, "because the file cannot be read any more"),
        (pictures.undecodable, "because the file cannot be decoded here"),
        (pictures.left_out, "to keep this report small"),
    ):
        if number:
            yield f"{plural(number, 'cell')} {_is(number)} shown without a picture {what}."


def gallery_words(fields: Fields) -> list[dict[str, str]]:
    """Return title and explanation of each gallery that these results can fill."""
    named = fields.positive_words
    near = (
        f"Probability of {named} nearest to the threshold, {fields.threshold:.3f}."
        if fields.threshold is not None
        else "The two likeliest classes are almost equally probable."
    )
    level = f" at p ≤ {fields.ood_level:g}"
    words = {
        "suspicious": f"Highest probability of {named}.",
        "uncertain": near,
        "strange": f"Farthest from the training data; marked where out of distribution{level}.",
        "marked": "Cells that the review speaks of and that are in no gallery above.",
        "sample": "Taken evenly over the whole run, whatever the model says of them.",
    }
    if fields.positive is None:
        del words["suspicious"]
    return [{"key": key, "title": GALLERY_TITLES[key], "text": text} for key, text in words.items()]


def cell_lines(
    cell: Mapping[str, Any], fields: Fields, label: str | None, copy_of: str | None
) -> list[str]:
    """Return what is said below a cell's picture."""
    lines = []
    options = cell.get("prediction_set")
    if options is not None and cell.get("abstained"):
        names = " or ".join(map(fields.words, options))
        lines.append(f"left open: {names}" if names else "left open: fits no class")
    p = cell.get("ood_p")
    if p is not None and p <= fields.ood_level:
        lines.append(f"out of distribution, {p_value(p)}")
    if label is not None:
        lines.append(f"labelled {fields.words(label)}")
    if copy_of is not None:
        lines.append(f"copy of {shown(copy_of)}")
    return lines

"""From a results folder to report.html."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError
from engines.files import discard_scratch, whole_file
from engines.sources import SourceOptions
from screen.report.content.inputs import read_inputs
from screen.report.content.nearest import EMBEDDING, nearest, read_embeddings, within_reach
from screen.report.content.pictures import MOST_BYTES, PictureCounts, find_source, pictures
from screen.report.page.cell_data import cell_values, number_terms
from screen.report.page.html import render
from screen.report.page.review_values import review_line
from screen.report.page.script_data import chart_values, slide_values
from screen.report.page.template_values import page_values
from screen.report.page.wording import gallery_words
from screen.results.folder import ResultsFolder, is_report
from screen.results.tables import writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.locations import Location
    from engines.sources import Source
    from screen.report.content.inputs import ReportInputs

__all__ = ["Report", "ReportOptions", "write_report"]

AROUND_NEIGHBOURS = 45  # bytes a cell: the cells that are most like it
NO_PICTURE = {
    "gone": "file gone",
    "changed": "file changed since it was screened",
    "undecodable": "cannot be drawn",
    "left_out": "left out to save space",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """
    What to report on.

    Attributes:
        results: Folder of a run that is done, or its URL.
        out: The file to write; None for report.html in it.
        labels: What the cells are (see ``engines.sources.labels.open_labels``); None if not known.
        source: Where the folder of cells is now; None if it is where it was.
        review: What a person said of cells: review.csv, as the page saves it; None without.
    """

    results: Location
    out: Location | None = None
    labels: str | None = None
    source: Location | None = None
    review: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """
    A report that was written.

    Attributes:
        path: Where.
        size: In bytes.
        pictures: How its pictures went.
        review: How far a person agrees with the model, in words; empty without a review.
    """

    path: Location
    size: int
    pictures: PictureCounts
    review: str = ""


def write_report(options: ReportOptions) -> Report:
    """
    Write one HTML file about a run that is done; the same results give the same bytes.

    Raises:
        ResultsError: If there is no such run, its tables do not belong together, or the file
            cannot be written, or the review is none.
        SourceError: If *source* is not there, or labels or review cannot be read.
    """
    results = ResultsFolder(options.results)
    path = options.out or results.report
    if path.exists() and not is_report(path):
        raise ResultsError(
            f"{path} is not a report of slidescreen: it is left alone",
            hint="move it away, or name another file with --out",
        )
    inputs = read_inputs(results, options.labels, options.review)
    reading = SourceOptions(max_pixels=inputs.record.fingerprint.max_pixels)
    source = find_source(inputs.record.source.locations, options.source, reading)
    page, counts = _page(inputs, source)
    if isinstance(path, Path):
        with writing(path):
            discard_scratch(path.parent, re.escape(path.name))
    with writing(path), whole_file(path) as scratch:
        scratch.write_bytes(page)
    reviewed = inputs.overview.review
    return Report(path, len(page), counts, review_line(reviewed) if reviewed else "")


def _page(inputs: ReportInputs, source: Source | None) -> tuple[bytes, PictureCounts]:
    """Render once without pictures, to see how much room there is, then with them."""
    data, cells = _data(inputs)
    bare = render(page_values(inputs, PictureCounts(len(cells))), data)
    room = MOST_BYTES - len(bare.encode()) - AROUND_NEIGHBOURS * len(cells)
    counts = _add_pictures(cells, inputs, source, room)
    _add_nearest(cells, inputs)
    return render(page_values(inputs, counts), data).encode(), counts


def _data(inputs: ReportInputs) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the script draws; and of it the cells, which may still get pictures."""
    fields, grid = inputs.fields, inputs.fields.evidence
    cells, scale = cell_values(inputs)
    place = {row: index for index, row in enumerate(inputs.galleries.order)}
    data = {
        "run": inputs.record.fingerprint.digest,
        "classes": list(fields.classes),
        "words": list(map(fields.words, fields.classes)),
        "positive": fields.positive_words or None,
        "positiveClass": fields.positive_index,
        "threshold": fields.threshold,
        "oodLevel": fields.ood_level,
        "grid": grid and [grid.height, grid.width],
        "evidenceScale": scale,
        "terms": number_terms(fields),
        "galleries": [each for each in gallery_words(fields) if inputs.galleries.uses(each["key"])],
        "slides": slide_values(inputs, place),
        "cells": cells,
        "charts": chart_values(inputs.overview, place),
    }
    return data, cells


def _add_pictures(
    cells: Sequence[dict[str, Any]], inputs: ReportInputs, source: Source | None, room: int
) -> PictureCounts:
    """Give each cell its picture while there are *room* bytes, or say why it has none."""
    if source is None:
        for cell in cells:
            cell["why"] = NO_PICTURE["gone"]
        return PictureCounts(len(cells), gone=len(cells), folder_gone=True)
    problems: Counter[str] = Counter()
    made = pictures(source, inputs.shown, inputs.fields, room)
    for cell, picture in zip(cells, made, strict=True):
        problems[picture.problem or ("whole" if picture.whole else "small")] += 1
        if picture.problem:
            cell["why"] = NO_PICTURE[picture.problem]
        else:
            cell |= {"image": picture.uri, "size": picture.size, "whole": picture.whole}
            cell |= {"box": [round(side, 4) for side in picture.box or ()]}
    return PictureCounts(
        len(cells),
        gone=problems["gone"],
        changed=problems["changed"],
        undecodable=problems["undecodable"],
        left_out=problems["left_out"],
        whole=problems["whole"],
    )


def _add_nearest(cells: Sequence[dict[str, Any]], inputs: ReportInputs) -> None:
    """Tell each cell with a picture which others with one are most like it, where that is known."""
    if EMBEDDING not in inputs.fields.present:
        return
    pairs = zip(inputs.galleries.order, enumerate(cells), strict=True)
    place_of_row = {row: place for row, (place, cell) in pairs if "image" in cell}
    rows = within_reach(inputs.all_cells, list(place_of_row))
    if len(rows) < 2:  # noqa: PLR2004  no other
        return
    features_NF = read_embeddings(inputs.all_cells, rows)
    for row, found in zip(rows, nearest(features_NF), strict=True):
        cells[place_of_row[row]]["near"] = [place_of_row[rows[each]] for each in found]

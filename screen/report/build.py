"""From a results folder to report.html."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError
from engines.files import whole_file
from engines.sources import SourceOptions
from screen.report.content.inputs import read_inputs
from screen.report.content.pictures import PictureCounts, find_source, thumbnails
from screen.report.page.html import render
from screen.report.page.script_data import cell_values, chart_values, slide_values
from screen.report.page.template_values import page_values
from screen.report.page.wording import gallery_words
from screen.results.folder import ResultsFolder, is_report
from screen.results.tables import writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.locations import Location
    from engines.sources import Source
    from screen.report.content.inputs import ReportInputs

__all__ = ["MOST_BYTES", "Report", "ReportOptions", "write_report"]

MOST_BYTES = 14_500_000
AROUND_A_PICTURE = 90  # bytes: its place and shape
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
    """

    results: Location
    out: Location | None = None
    labels: str | None = None
    source: Location | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written: where, its size in bytes, and how its pictures went."""

    path: Location
    size: int
    pictures: PictureCounts


def write_report(options: ReportOptions) -> Report:
    """
    Write one HTML file about a run that is done; the same results give the same bytes.

    Raises:
        ResultsError: If there is no such run, its tables do not belong together, or the file
            cannot be written.
        SourceError: If *source* is not there.
    """
    results = ResultsFolder(options.results)
    path = options.out or results.report
    if path.exists() and not is_report(path):
        raise ResultsError(
            f"{path} is not a report of slidescreen: it is left alone",
            hint="move it away, or name another file with --out",
        )
    inputs = read_inputs(results, options.labels)
    reading = SourceOptions(max_pixels=inputs.record.fingerprint.max_pixels)
    source = find_source(inputs.record.source.locations, options.source, reading)
    page, pictures = _page(inputs, source)
    with writing(path), whole_file(path) as scratch:
        scratch.write_bytes(page)
    return Report(path, len(page), pictures)


def _page(inputs: ReportInputs, source: Source | None) -> tuple[bytes, PictureCounts]:
    """Render once without pictures, to see how much room there is, then with them."""
    data, cells = _data(inputs)
    bare = render(page_values(inputs, PictureCounts(len(cells))), data)
    pictures = _add_pictures(cells, inputs, source, MOST_BYTES - len(bare.encode()))
    return render(page_values(inputs, pictures), data).encode(), pictures


def _data(inputs: ReportInputs) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the script draws; and of it the cells, which may still get pictures."""
    fields, grid = inputs.fields, inputs.fields.evidence
    cells, scale = cell_values(inputs.shown, fields, inputs.notes)
    place = {row: index for index, row in enumerate(inputs.galleries.order)}
    data = {
        "positive": fields.positive_words or None,
        "threshold": fields.threshold,
        "oodLevel": fields.ood_level,
        "grid": grid and [grid.height, grid.width],
        "evidenceScale": scale,
        "galleries": [each for each in gallery_words(fields) if inputs.galleries.rows[each["key"]]],
        "slides": slide_values(inputs, place),
        "cells": cells,
        "charts": chart_values(inputs.overview),
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
    problems = []
    made = thumbnails(source, inputs.shown, inputs.fields)
    for cell, thumbnail in zip(cells, made, strict=True):
        room -= len(thumbnail.uri) + AROUND_A_PICTURE
        problem = "left_out" if thumbnail.uri and room < 0 else thumbnail.problem
        problems.append(problem)
        if problem:
            cell["why"] = NO_PICTURE[problem]
        else:
            cell |= {"image": thumbnail.uri, "aspect": round(thumbnail.aspect, 4)}
            cell |= {"box": [round(side, 4) for side in thumbnail.box or ()]}
    return PictureCounts(
        len(cells),
        gone=problems.count("gone"),
        changed=problems.count("changed"),
        undecodable=problems.count("undecodable"),
        left_out=problems.count("left_out"),
    )

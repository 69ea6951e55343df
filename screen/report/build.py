"""From a results folder to report.html."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError
from engines.files import whole_file
from screen.report.content.inputs import gather
from screen.report.content.pictures import find_source, thumbnails
from screen.report.page.html import render
from screen.report.page.script_data import cell_values, chart_values, slide_values
from screen.report.page.template_values import page_values
from screen.report.page.wording import Pictures, gallery_words
from screen.results.folder import ResultsFolder, is_report
from screen.results.tables import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engines.sources import Source
    from screen.report.content.inputs import Material

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
        results: Folder of a run that is done.
        out: The file to write; None for report.html in it.
        labels: What the cells are (see ``engines.sources.labels.open_labels``); None if not known.
        source: Where the folder of cells is now; None if it is where it was.
    """

    results: Path
    out: Path | None = None
    labels: str | None = None
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report that was written: where, its size in bytes, and how its pictures went."""

    path: Path
    size: int
    pictures: Pictures


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
    material = gather(results, options.labels)
    source = find_source(material.record.source.locations, options.source)
    page, pictures = _page(material, source)
    with writing(path), whole_file(path) as scratch:
        scratch.write_bytes(page)
    return Report(path, len(page), pictures)


def _page(material: Material, source: Source | None) -> tuple[bytes, Pictures]:
    """Render once without pictures, to see how much room there is, then with them."""
    data, cells = _data(material)
    bare = render(page_values(material, Pictures(len(cells))), data)
    pictures = _add_pictures(cells, material, source, MOST_BYTES - len(bare.encode()))
    return render(page_values(material, pictures), data).encode(), pictures


def _data(material: Material) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the script draws; and of it the cells, which may still get pictures."""
    fields, grid = material.fields, material.fields.evidence
    cells, scale = cell_values(material.shown, fields, material.notes)
    place = {row: index for index, row in enumerate(material.choice.order)}
    data = {
        "positive": fields.positive_words or None,
        "threshold": fields.threshold,
        "oodLevel": fields.ood_level,
        "grid": grid and [grid.height, grid.width],
        "evidenceScale": scale,
        "galleries": [each for each in gallery_words(fields) if material.choice.rows[each["key"]]],
        "slides": slide_values(material, place),
        "cells": cells,
        "charts": chart_values(material.overview),
    }
    return data, cells


def _add_pictures(
    cells: Sequence[dict[str, Any]], material: Material, source: Source | None, room: int
) -> Pictures:
    """Give each cell its picture while there are *room* bytes, or say why it has none."""
    if source is None:
        for cell in cells:
            cell["why"] = NO_PICTURE["gone"]
        return Pictures(len(cells), gone=len(cells), folder_gone=True)
    problems = []
    made = thumbnails(source, material.shown, material.fields)
    for cell, thumbnail in zip(cells, made, strict=True):
        room -= len(thumbnail.uri) + AROUND_A_PICTURE
        problem = "left_out" if thumbnail.uri and room < 0 else thumbnail.problem
        problems.append(problem)
        if problem:
            cell["why"] = NO_PICTURE[problem]
        else:
            cell |= {"image": thumbnail.uri, "aspect": round(thumbnail.aspect, 4)}
            cell |= {"box": [round(side, 4) for side in thumbnail.box or ()]}
    return Pictures(
        len(cells),
        gone=problems.count("gone"),
        changed=problems.count("changed"),
        undecodable=problems.count("undecodable"),
        left_out=problems.count("left_out"),
    )

"""
Slides of a results folder as rows of numbers: what the model saw, and what the source said.

Read as plain Parquet and JSON, as any other program would.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from engines.errors import SourceError
from engines.files import native_file
from engines.sources.tables.columns import read_columns

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Labels", "Slides", "read_labels", "read_slides"]

META = "meta_"
SHARES = {"share_abstained": "n_abstained", "share_out_of_distribution": "n_out_of_distribution"}


@dataclass(frozen=True, slots=True)
class Slides:
    """
    Slides, each with its features.

    Attributes:
        names: S slides.
        image: Features of what the model saw, ``(S,)`` float64 each, NaN where there is none.
        patient: Columns of the source, ``(S,)`` each: float64, or object for words, None for none.
        bundle: SHA-256 of the model that saw them.
    """

    names: tuple[str, ...]
    image: Mapping[str, NDArray[np.float64]]
    patient: Mapping[str, NDArray[Any]]
    bundle: str

    def chosen(self, rows: Sequence[int]) -> Slides:
        """Return some of the slides."""
        return Slides(
            tuple(self.names[row] for row in rows),
            {name: values[list(rows)] for name, values in self.image.items()},
            {name: values[list(rows)] for name, values in self.patient.items()},
            self.bundle,
        )


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of slides: whether each is positive, and whose it is."""

    positive: Mapping[str, bool]
    person: Mapping[str, str]


def read_slides(results: Path, without: Collection[str] = ()) -> Slides:
    """
    Read the slides of a run that is done, with the ``meta_`` columns of their cells.

    Args:
        results: The results folder.
        without: Columns to leave out, with or without the ``meta_`` before them.

    Raises:
        SourceError: If there is no such run, or a slide's cells say different things.
    """
    try:
        run = json.loads((results / "run.json").read_text(encoding="utf-8"))
        with native_file(results / "slides.parquet") as file:
            table = pq.read_table(file).sort_by("slide")
        names, bundle = table["slide"].to_pylist(), str(run["model"]["sha256"])
        patient = _patient_columns(results, names, without)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise SourceError(
            f"{results} holds no run that is done: {error}",
            hint="name a folder that slidescreen run has written to, to the end",
        ) from error
    return Slides(tuple(names), _image_features(table), patient, bundle)


def read_labels(path: Path, positive: str) -> Labels:
    """
    Read a table with the columns ``slide``, ``label`` and maybe ``person``.

    Args:
        path: CSV or Parquet.
        positive: The label that is to be predicted; any other is not it.

    Raises:
        SourceError: If it cannot be read, a slide comes twice, or there is no such label.
    """
    table = read_columns(path, ("slide", "label"), ("person",))
    slides, labels = table["slide"].to_pylist(), table["label"].to_pylist()
    if len(set(slides)) != len(slides) or None in slides or None in labels:
        raise SourceError(
            f"{path} names a slide twice, or leaves a slide or a label empty",
            hint="give each slide one row with a label",
        )
    if positive not in labels:
        raise SourceError(
            f"no slide in {path} is labelled {positive}",
            hint=f"its labels are {', '.join(sorted(set(labels)))}: name one with --positive",
        )
    people = table["person"].to_pylist() if "person" in table.column_names else slides
    return Labels(
        {slide: label == positive for slide, label in zip(slides, labels, strict=True)},
        {slide: who or slide for slide, who in zip(slides, people, strict=True)},
    )


def _image_features(table: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Return what the tables of slides say in numbers that do not grow with a slide's cells."""
    wanted = [
        name
        for name in table.column_names
        if name in ("fraction_positive", "fraction_positive_rogan_gladen")
        or name.startswith("mean_prob_")
    ]
    found = {name: _floats(table[name]) for name in wanted}
    scored = np.maximum(_floats(table["n_ok"]), 1)
    for name, count in SHARES.items():
        found[name] = _floats(table[count]) / scored
    return found


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return a column as float64, NaN for null."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _patient_columns(
    results: Path, names: Sequence[str], without: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Return each ``meta_`` column by slide; numbers written as text are numbers."""
    parts = sorted(map(str, (results / "cells").glob("part-*.parquet")))
    cells = ds.dataset(parts, format="parquet", filesystem=LocalFileSystem())
    left_out = {f"{META}{name.removeprefix(META)}" for name in without}
    columns = [n for n in cells.schema.names if n.startswith(META) and n not in left_out]
    said: dict[str, dict[str, Any]] = {name: {} for name in columns}
    for batch in cells.to_batches(columns=["slide", *columns]):
        rows = pa.Table.from_batches([batch])
        for row in rows.group_by(rows.column_names).aggregate([]).to_pylist():
            for name in columns:
                _note(said[name], row["slide"], name, row[name])
    return {name: _values([said[name].get(slide) for slide in names]) for name in columns}


def _note(known: dict[str, Any], slide: str, name: str, value: Any) -> None:
    """Keep what the cells of a slide say, refusing cells that say different things."""
    if value is None:
        return
    if known.setdefault(slide, value) != value:
        raise SourceError(
            f"the cells of slide {slide} say both {known[slide]!r} and {value!r} in {name}",
            hint="what is known of a person is the same for all of a slide's cells; leave the "
            "column out with --without",
        )


def _values(values: Sequence[Any]) -> NDArray[Any]:
    """Return numbers as float64 (NaN for none), anything else, infinity too, as words."""
    try:
        numbers = np.array([np.nan if value is None else float(value) for value in values])
    except (TypeError, ValueError):
        numbers = np.array([np.inf])
    if np.isinf(numbers).any():
        return np.array([None if value is None else str(value) for value in values], object)
    return numbers

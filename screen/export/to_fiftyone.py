"""
Cells as a FiftyOne data set: the JSON that ``fiftyone.Dataset.from_json`` reads.

The layout is that of ``Dataset.to_json``: ``name``, ``media_type``, ``info`` and ``samples``, each
sample with its ``filepath``, ``tags`` and fields, a label being an object with ``_cls``.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError
from engines.sources.names import unescaped
from screen.export.tables import Written, rows_of
from screen.results.schema import class_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from screen.export.tables import Exported

__all__ = ["is_ours", "write"]

MARK = '{"info": {"generator": "slidescreen export"'


def write(exported: Exported, path: Path) -> Written:
    """
    Write a sample for each cell, bad ones too; ``filepath`` is where the cell's file is.

    The call is the field ``predicted`` with its probability as ``confidence``; the status, the
    slide, the scores and, if there is one, the embedding are fields of their own.

    Raises:
        ResultsError: If the cells are not files of one folder, which is all that FiftyOne opens.
    """
    file_of = _file_of(exported)
    names = [name for name in exported.schema.names if name != "evidence"]
    info = {"generator": "slidescreen export", "run": exported.record.fingerprint.digest}
    head = {"info": info, "name": "slidescreen", "media_type": "image"}
    classes = exported.record.model.classes
    columns = (f"prob_{name}" for name in class_columns(classes))
    chances = dict(zip(classes, columns, strict=True))
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "samples": [')
        for batch in exported.batches(names):
            for row in rows_of(batch):
                sample = _sample(row, file_of(row["path"]), chances)
                file.write((",\n" if rows else "\n") + json.dumps(sample))
                rows += 1
        file.write("\n]}\n")
    return Written(rows)


def is_ours(path: Path) -> bool:
    """Whether a file begins as such an export does."""
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()


def _file_of(exported: Exported) -> Callable[[str], str]:
    """Return what turns a cell's path into the name of its file."""
    locations = exported.record.source.locations
    root = os.fsdecode(unescaped(locations[0]))
    boxed = "box_x" in exported.schema.names and any(
        batch["box_x"].null_count < len(batch) for batch in exported.batches(["box_x"])
    )
    if len(locations) != 1 or not os.path.isdir(root) or boxed:
        raise ResultsError(
            "FiftyOne opens image files, and these cells are not the files of one folder "
            f"that is there: {exported.record.source.location}",
            hint="export a run of one folder of crops, or --to geojson for cells with boxes",
        )
    return lambda path: os.path.join(root, os.fsdecode(unescaped(path)))


def _sample(row: dict[str, Any], file: str, chances: Mapping[str, str]) -> dict[str, Any]:
    """Return one sample, given the columns of each class's probability."""
    predicted = row.pop("predicted")
    sample: dict[str, Any] = {"filepath": file, "tags": [row["status"]], "metadata": None}
    sample |= {name: each for name, each in row.items() if name != "path" and each is not None}
    if predicted is not None:
        chance = row[chances[predicted]]
        label = {"_cls": "Classification", "label": predicted, "confidence": chance}
        sample["predicted"] = label
    return sample

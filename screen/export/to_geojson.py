"""Cells with boxes as GeoJSON, which QuPath imports as detections."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engines.errors import ResultsError
from screen.export.tables import Written, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from screen.export.tables import Exported

__all__ = ["is_ours", "write"]

START = '{"type": "FeatureCollection", "generator": "slidescreen export", "features": ['
BOX = ("box_x", "box_y", "box_width", "box_height")
COLOURS = ((215, 48, 39), (69, 117, 180), (230, 171, 2), (102, 166, 30), (117, 112, 179))
MEASURED = ("prob_", "ood_", "focus", "exposure", "clipped", "foreground", "stain_shift")


def write(exported: Exported, path: Path) -> Written:
    """
    Write a detection for each cell that has a box, in pixels of the field image.

    Its classification is what was predicted, its measurements are the scores, its metadata path,
    slide, image and status. Cells without a box are counted and left out.

    Raises:
        ResultsError: If no cell has a box.
    """
    if not set(BOX) <= set(exported.schema.names):
        raise _no_boxes()
    names = [name for name in exported.schema.names if name not in ("evidence", "embedding")]
    rows = left_out = 0
    with path.open("w", encoding="utf-8") as file:
        file.write(START)
        for batch in exported.batches(names):
            for row in rows_of(batch):
                if any(row[name] is None for name in BOX):
                    left_out += 1
                    continue
                file.write((",\n" if rows else "\n") + json.dumps(_feature(row, exported)))
                rows += 1
        file.write("\n]}\n")
    if not rows:
        raise _no_boxes()
    return Written(rows, left_out)


def is_ours(path: Path) -> bool:
    """Whether a file begins as such an export does."""
    with path.open("rb") as file:
        return file.read(len(START)) == START.encode()


def _no_boxes() -> ResultsError:
    """Say that there is nothing to place."""
    return ResultsError(
        "GeoJSON needs cells that have a box on a field image, and none of these has",
        hint="screen a manifest with boxes, or export --to csv, xlsx or parquet",
    )


def _feature(row: dict[str, Any], exported: Exported) -> dict[str, Any]:
    """Return one detection."""
    left, top, width, height = (row[name] for name in BOX)
    right, bottom = left + width, top + height
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    told = {"path": row["path"], "slide": row["slide"], "status": row["status"]}
    told["image"] = row["path"].rpartition("#")[0] or row["path"]
    properties: dict[str, Any] = {
        "objectType": "detection",
        "name": row["path"],
        "measurements": {
            name: float(value)
            for name, value in row.items()
            if name.startswith(MEASURED) and isinstance(value, float)
        },
        "metadata": told,
    }
    if row["predicted"] is not None:
        number = exported.record.model.classes.index(row["predicted"])
        colour = list(COLOURS[number % len(COLOURS)])
        properties["classification"] = {"name": row["predicted"], "color": colour}
    geometry = {"type": "Polygon", "coordinates": [corners]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}

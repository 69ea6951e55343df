"""Whether a table's boxes lie on fields, or only say where its images were once cut out."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

from PIL import Image

from engines.errors import SourceError
from engines.sources.tables.boxes import parsed_box
from engines.sources.tables.rows import BOX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["require_fields"]

LOOKED_AT = 16  # images
ROWS = 1_000  # that those are looked for in


def require_fields(rows: Iterable[Mapping[str, Any]], file: Path) -> None:
    """
    Refuse boxes on images that are each as large as their box, and placed elsewhere.

    Such images were cut out of their fields already; a box would be cut out of the crop again.

    Args:
        rows: Of the table; the first ones are looked at.
        file: The table; images are relative to its folder.

    Raises:
        SourceError: If all of the first images are so.
    """
    first: dict[str, Mapping[str, Any]] = {}
    for row in itertools.islice(rows, ROWS):
        first.setdefault(row["path"] or "", row)
        if len(first) > LOOKED_AT:
            break
    found = [_is_crop(file.parent, row) for row in itertools.islice(first.values(), LOOKED_AT)]
    known = [each for each in found if each is not None]
    if known and all(known):
        columns = " ".join(f"--column {name}={name}" for name in BOX)
        raise SourceError(
            f"{file} has the columns x, y, width and height, but its images are as large as these "
            "boxes: they look like crops that were cut out of fields, not like fields",
            hint=f"--column x= screens them whole; {columns} cuts the boxes out of them",
        )


def _is_crop(folder: Path, row: Mapping[str, Any]) -> bool | None:
    """Whether an image is as large as its box, which is not at its corner; None if not known."""
    box = parsed_box([row[name] for name in BOX])
    try:
        with Image.open(os.path.join(os.fsencode(folder), os.fsencode(row["path"]))) as image:
            size = image.size
    except (OSError, ValueError, TypeError, Image.DecompressionBombError):
        return None
    if box is None:
        return None
    x, y, width, height = box
    return (round(width), round(height)) == size and (x, y) != (0, 0)

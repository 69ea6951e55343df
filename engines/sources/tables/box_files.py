"""Boxes as programs write them: GeoJSON of QuPath, and COCO's annotations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from engines.errors import SourceError
from engines.sources.names import EXTENSIONS
from engines.sources.tables.rows import BOX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pyarrow as pa

    Row: TypeAlias = dict[str, Any]

__all__ = ["BoxFileRows", "is_box_file"]

SUFFIXES = (".geojson", ".json")
MARKS = (b'"FeatureCollection"', b'"Feature"', b'"annotations"', b'"images"')
START = 65_536  # bytes in which one of these stands
CELLS = ("detection", "cell")  # QuPath's objects that are cells, if there are any
FOLDERS = (".", "images", "..", "../images")  # where COCO's images lie, seen from its file
HINT = (
    "the file has to be GeoJSON as QuPath exports it, or COCO with images, annotations, categories"
)


def is_box_file(path: Path) -> bool:
    """Whether a file may be GeoJSON or COCO's JSON, going by its name and how it begins."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    with path.open("rb") as file:
        start = file.read(START)
    return any(mark in start for mark in MARKS)


class BoxFileRows:
    """ManifestRows (see ``rows``) of GeoJSON or COCO; the file is held in memory."""

    boxes = True

    def __init__(self, file: Path) -> None:
        """
        Read the file.

        Raises:
            SourceError: If it is neither.
        """
        import pyarrow as pa

        try:
            content = json.loads(file.read_bytes())
            self._rows = list(_rows(content, file))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(
                f"cannot read boxes from {file}: {type(error).__name__}: {error}", hint=HINT
            ) from error
        self.carried: Mapping[str, pa.DataType] = {
            "cell_id": pa.string(),
            "label": pa.string(),
            **{f"box_{name}": pa.float64() for name in BOX},
        }

    def __iter__(self) -> Iterator[Row]:
        """Yield a row for each box."""
        return iter(self._rows)


def _rows(content: Any, file: Path) -> Iterator[Row]:
    """Yield the rows of a file's content."""
    if isinstance(content, Mapping) and "annotations" in content:
        return _coco_rows(content, file)
    features = content if isinstance(content, list) else content.get("features", [content])
    return _geojson_rows(features, file)


def _coco_rows(content: Mapping[str, Any], file: Path) -> Iterator[Row]:
    """Yield COCO's annotations."""
    images = {image["id"]: image["file_name"] for image in content["images"]}
    classes = {each["id"]: each["name"] for each in content.get("categories", [])}
    folder = next(
        (each for each in FOLDERS if _any_there(file.parent / each, images.values())), "."
    )
    prefix = "" if folder == "." else f"{folder}/"
    for annotation in content["annotations"]:
        if annotation["image_id"] not in images:
            raise ValueError(
                f"annotation {annotation.get('id')} is on image {annotation['image_id']}, "
                "which is not among its images"
            )
        sides = annotation.get("bbox") or (None,) * len(BOX)
        yield _row(
            prefix + images[annotation["image_id"]],
            sides,
            annotation.get("id"),
            classes.get(annotation.get("category_id")),
        )


def _any_there(folder: Path, names: Iterable[str]) -> bool:
    """Whether the first of some files lies in a folder."""
    return any((folder / name).is_file() for name in list(names)[:1])


def _geojson_rows(features: Sequence[Mapping[str, Any]], file: Path) -> Iterator[Row]:
    """Yield QuPath's cells and detections, or its annotations where there are none of those."""
    kinds = [(each.get("properties") or {}).get("objectType", "annotation") for each in features]
    wanted = CELLS if set(kinds) & set(CELLS) else ("annotation",)
    for feature, kind in zip(features, kinds, strict=True):
        if kind not in wanted:
            continue
        said = feature.get("properties") or {}
        image = (said.get("metadata") or {}).get("image") or _image_beside(file)
        label = (said.get("classification") or {}).get("name")
        geometry = feature.get("geometry") or {}
        yield _row(image, _bounds(geometry.get("coordinates")), feature.get("id"), label)


def _image_beside(file: Path) -> str:
    """
    Return the image that a GeoJSON file is called after.

    Raises:
        SourceError: If there is none, or more than one.
    """
    stem = file.stem
    found = sorted(
        each.name
        for each in file.parent.iterdir()
        if stem in (each.stem, each.name) and each.suffix[1:].lower().encode() in EXTENSIONS
    )
    if len(found) != 1:
        raise SourceError(
            f"{file} does not say which image its boxes are on, and {len(found)} images beside it "
            f"are called {stem}",
            hint=f"put the image beside it, called {stem}.png, {stem}.tif or the like",
        )
    return found[0]


def _bounds(coordinates: Any) -> Sequence[float | None]:
    """Return x, y, width and height of what encloses all points of a geometry, in pixels."""
    points = list(_points(coordinates))
    if not points:
        return (None,) * len(BOX)
    left, top = (min(axis) for axis in zip(*points, strict=True))
    right, bottom = (max(axis) for axis in zip(*points, strict=True))
    return left, top, right - left, bottom - top


def _points(coordinates: Any) -> Iterator[tuple[float, float]]:
    """Yield the points of any geometry."""
    if isinstance(coordinates, list) and coordinates:
        if isinstance(coordinates[0], int | float):
            yield coordinates[0], coordinates[1]
        else:
            for each in coordinates:
                yield from _points(each)


def _row(image: str, sides: Sequence[float | None], number: Any, label: Any) -> Row:
    """Return a row as a table would have it: its box as text."""
    box = {name: None if side is None else str(side) for name, side in zip(BOX, sides, strict=True)}
    cell_id = None if number is None else str(number)
    return {"path": image, **box, "cell_id": cell_id, "label": label and str(label)}

"""Boxes from QuPath's GeoJSON and COCO's JSON, and tables whose boxes are none."""

from __future__ import annotations

import json

import pytest
from made_sources import made_source
from PIL import Image

from engines.cells import CellRef, RefusedCellError
from engines.errors import SourceError
from engines.sources import SourceOptions, open_source


def listed(path, **options):
    """Open a file, and list it."""
    source = open_source(path, SourceOptions(**options))
    return source, {entry.path: entry for entry in source.list()}


def said(source, entry):
    """Return what the source says of a cell."""
    return dict(zip(source.carried, entry.carried, strict=True))


def test_qupath_cells_are_boxes_on_the_image_of_that_name(cells, tmp_path):
    """What encloses the outline; annotations are left out where there are cells."""
    source, found = listed(made_source("geojson", cells, tmp_path / "made"))

    assert list(found) == ["field.bmp#10,5,40,40", "field.bmp#3,3,0,0"]
    assert said(source, found["field.bmp#10,5,40,40"]) == {
        "cell_id": "id-0", "label": "hem",
        "box_x": 10, "box_y": 5, "box_width": 40, "box_height": 40,
    }  # fmt: skip


def test_qupath_annotations_are_cells_where_there_is_nothing_else(cells, tmp_path):
    """A pathologist's boxes are drawn as annotations."""
    path = made_source("geojson", cells, tmp_path / "made")
    path.write_text(path.read_text().replace('"cell"', '"annotation"'))

    assert len(listed(path)[1]) == 3


def test_geojson_may_name_its_image_itself(cells, tmp_path):
    """As ``slidescreen export`` writes it."""
    path = made_source("geojson", cells, tmp_path / "made")
    content = json.loads(path.read_text())
    for feature in content["features"]:
        feature["properties"]["metadata"] = {"image": "other/a.png"}
    path.write_text(json.dumps(content))

    assert next(iter(listed(path)[1])) == "other/a.png#10,5,40,40"


def test_geojson_without_an_image_says_what_to_do(cells, tmp_path):
    """It names none, and there is none of its name."""
    path = made_source("geojson", cells, tmp_path / "made")
    moved = path.rename(path.with_name("moved.geojson"))

    with pytest.raises(SourceError, match="0 images beside it are called moved") as caught:
        listed(moved)

    assert "moved.png" in caught.value.hint


def test_coco_boxes_have_classes(cells, tmp_path):
    """Images are found in the folder ``images``; an empty box is a row."""
    source, found = listed(made_source("coco", cells, tmp_path / "made"))

    names = ["images/0.bmp#0,5,40,40", "images/1.bmp#10.5,5,40,40", "images/1.bmp#1,1,0,0"]
    assert list(found) == names
    assert said(source, found[names[1]])["label"] == "all"
    with pytest.raises(RefusedCellError, match="no width"):
        source.read(CellRef(names[2], "", found[names[2]].locator))


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [{"id": 1, "image_id": 5, "bbox": [0, 0, 1, 1]}]},
        {"images": [{"id": 1}], "annotations": []},
        {"annotations": 3, "images": []},
    ],
)
def test_what_is_not_coco_is_an_error(content, tmp_path):
    """With what is wrong."""
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))

    with pytest.raises(SourceError, match=r"cannot read boxes from .*boxes\.json"):
        listed(path)


def test_other_json_is_no_source(tmp_path):
    """Such as a settings file."""
    path = tmp_path / "other.json"
    path.write_text('{"a": 1}')

    with pytest.raises(SourceError, match="is no source of cells"):
        open_source(path)


def crops(folder, side):
    """Write a manifest of two crops, and where they were cut out of their field."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (side, side)).save(folder / name)
    path = folder / "cells.csv"
    path.write_text("path,x,y,width,height\na.png,100,7,40,40\nb.png,3,3,40,40\n")
    return path


def test_crops_are_not_cut_again_in_silence(tmp_path):
    """Images as large as their boxes have been cut out already; an option says what is meant."""
    path = crops(tmp_path, 40)

    with pytest.raises(SourceError, match="look like crops") as caught:
        listed(path)
    assert "--column x= screens them whole" in caught.value.hint

    assert list(listed(path, columns=("x=",))[1]) == ["a.png", "b.png"]
    boxes = tuple(f"{name}={name}" for name in ("x", "y", "width", "height"))
    assert "b.png#3,3,40,40" in listed(path, columns=boxes)[1]


def test_boxes_on_larger_images_are_boxes_and_that_is_said(tmp_path, caplog):
    """Once, with the option that says otherwise."""
    with caplog.at_level("INFO", "engines"):
        assert len(listed(crops(tmp_path, 200))[1]) == 2

    assert caplog.text.count("--column x= would screen its images whole") == 1

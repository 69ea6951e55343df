"""Manifests: tables of files, and of boxes on fields."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from engines.cells import CellRef, RefusedCellError
from engines.decode.regions import padded_share
from engines.errors import SourceError
from engines.sources import Selection, SourceOptions, open_source


@pytest.fixture
def images(tmp_path):
    """Two small images, and a field whose every pixel is another."""
    for name in ("a/one.png", "two.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    numbers = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
    field = np.stack([numbers // 256, numbers % 256, numbers * 0], axis=-1).astype(np.uint8)
    Image.fromarray(field).save(tmp_path / "field.png")
    return tmp_path


def manifest(folder, text, name="cells.csv"):
    """Write a manifest."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def entries(path, **options):
    """List a manifest."""
    return list(open_source(path, SourceOptions(**options)).list())


def pixels(path, entry, **options):
    """Read a cell and decode it."""
    data = open_source(path, SourceOptions(**options)).read(CellRef(entry.path, "", entry.locator))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_manifest_names_files_relative_to_itself(images):
    """And says more of them: slide, label, id, and whatever other columns it has."""
    path = manifest(
        images, "path,slide,label,cell_id,width,status\na/one.png,S1,all,007,12,\ntwo.png,,,8,,x\n"
    )

    source = open_source(path)
    first, second = source.list()

    assert list(source.carried) == ["cell_id", "label", "meta_width", "meta_status"]
    assert (first.path, first.slide, first.carried) == (
        "a/one.png", "S1", ("007", "all", "12", None)
    )  # fmt: skip
    assert (second.slide, second.carried) == ("", ("8", None, None, "x"))
    assert first.size == (images / "a/one.png").stat().st_size
    assert source.read(CellRef("two.png", "")) == (images / "two.png").read_bytes()


def test_parquet_keeps_the_types_of_plain_columns(images):
    """Others are carried as text."""
    table = pa.table(
        {"file": ["two.png"], "age": [7], "score": [0.5], "tags": [["a", "b"]], "slide": [3]}
    )
    parquet.write_table(table, images / "cells.parquet")

    source = open_source(images / "cells.parquet")
    (entry,) = source.list()

    kinds = {"meta_age": pa.int64(), "meta_score": pa.float64(), "meta_tags": pa.string()}
    assert source.carried == kinds
    assert (entry.slide, entry.carried) == ("3", (7, 0.5, "['a', 'b']"))


def test_a_wrong_sha256_is_a_fault_of_its_own(images):
    """The right one is read; upper case does."""
    right = hashlib.sha256((images / "two.png").read_bytes()).hexdigest().upper()
    path = manifest(images, f"path,sha256\ntwo.png,{right}\na/one.png,{'0' * 64}\n")
    good, bad = entries(path)

    assert pixels(path, good).shape == (4, 4, 3)
    with pytest.raises(RefusedCellError, match="SHA-256 is") as caught:
        pixels(path, bad)
    assert caught.value.status == "undecodable"


def test_a_file_that_is_not_there_is_a_cell(images):
    """It has no size, and cannot be read."""
    path = manifest(images, "path\nlost.png\n")
    (entry,) = entries(path)

    assert entry.size is None
    with pytest.raises(FileNotFoundError):
        pixels(path, entry)


def test_names_that_come_twice_get_a_number(images):
    """A name that has such a number of its own keeps it."""
    path = manifest(images, "path\ntwo.png\na/one.png\ntwo.png#2\ntwo.png\ntwo.png\n")
    found = entries(path)

    names = [entry.path for entry in found]
    assert names == ["two.png", "a/one.png", "two.png#2", "two.png#3", "two.png#4"]
    assert pixels(path, found[3]).shape == (4, 4, 3)


def test_columns_are_named_by_option(images):
    """Those that are not there are refused, by name."""
    path = manifest(images, "where,kind\ntwo.png,all\n")

    (entry,) = entries(path, columns=("path=where", "label=kind"))

    assert (entry.path, entry.carried) == ("two.png", ("all",))
    for columns, said in (((), "no column path"), (("path=other",), "no column other")):
        with pytest.raises(SourceError, match=said):
            entries(path, columns=columns)
    with pytest.raises(SourceError, match="which column is which"):
        SourceOptions(columns=("colour=where",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path\nx.png\n,\n", "Expected 1 columns"),
        ("path,a\n,1\n", "row 1 .* names no file"),
        ("path,A,a\nx.png,1,2\n", "differ only in upper and lower case"),
        ("path\n\xff.png\n", "cannot read the manifest"),
    ],
)
def test_what_is_no_manifest_is_refused(images, text, said):
    """Before anything is screened."""
    path = images / "bad.csv"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(SourceError, match=said):
        entries(path)


BOXES = """image,class,x,y,width,height
field.png,WBC,2,3,5,4
field.png,RBC,-2,-1,4,4
field.png,RBC,5,5,0,3
field.png,RBC,100,100,5,5
field.png,RBC,,,,
field.png,RBC,1.5,2.5,2,2
"""


def test_boxes_are_cut_out_of_their_fields(images):
    """Pixel for pixel; what lies over the edge is black, and said."""
    path = manifest(images, BOXES)
    field = np.asarray(Image.open(images / "field.png"))
    found = entries(path)

    inside, over, _, _, _, between = found
    assert [entry.path for entry in found[:2]] == ["field.png#2,3,5,4", "field.png#-2,-1,4,4"]
    assert np.array_equal(pixels(path, inside), field[3:7, 2:7])
    assert np.array_equal(pixels(path, over)[1:, 2:], field[:3, :2])
    assert not pixels(path, over)[:1].any()
    assert np.array_equal(pixels(path, between), field[2:5, 1:4])
    assert inside.carried == ("WBC", 2, 3, 5, 4)
    data = open_source(path).read(CellRef(over.path, "", over.locator))
    assert padded_share(data) == pytest.approx(1 - 6 / 16)


@pytest.mark.parametrize("row", [2, 3, 4])
def test_a_box_without_pixels_is_undecodable(images, row):
    """Whether it is of no size, outside of its field, or none at all."""
    path = manifest(images, BOXES)

    with pytest.raises(RefusedCellError, match="the box") as caught:
        pixels(path, entries(path)[row])

    assert caught.value.status == "undecodable"


def test_a_margin_shows_what_is_around_a_box(images):
    """In the locator, so that a report finds the same pixels without the option."""
    path = manifest(images, BOXES)
    field = np.asarray(Image.open(images / "field.png"))
    inside = entries(path, box_margin=2)[0]

    assert np.array_equal(pixels(path, inside), field[1:9, 0:9])
    assert inside.path == "field.png#2,3,5,4"


def test_the_bytes_of_a_box_are_those_of_no_other_box(images):
    """Nor of the same box on another field that looks the same."""
    Image.open(images / "field.png").save(images / "again.png", compress_level=0)
    path = manifest(images, BOXES + "again.png,WBC,2,3,5,4\nfield.png,WBC,2,3,5,4\n")
    source = open_source(path)
    found = [each for each in source.list() if "," in each.path][:2] + entries(path)[-2:]
    read = [source.read(CellRef(each.path, "", each.locator)) for each in found]

    assert len(set(read)) == 3
    assert read[0] == read[3]
    assert found[3].path == "field.png#2,3,5,4#2"


def test_a_field_is_decoded_once(images, monkeypatch):
    """However many boxes it has."""
    from engines.decode.pillow import PillowEncoded

    decoded = []
    monkeypatch.setattr(
        PillowEncoded,
        "decode",
        lambda self, own=PillowEncoded.decode: decoded.append(1) or own(self),
    )
    path = manifest(images, BOXES)
    source = open_source(path)
    for entry in (entries(path)[0], entries(path)[1], entries(path)[5]):
        source.read(CellRef(entry.path, "", entry.locator))

    assert len(decoded) == 1


def test_a_field_at_fault_is_the_fault_of_each_of_its_boxes(images):
    """With the field's reason; too large a field is oversized."""
    path = manifest(images, BOXES)
    with pytest.raises(RefusedCellError, match="its field: 30 x 20 pixels") as caught:
        pixels(path, entries(path)[0], max_pixels=10)
    assert caught.value.status == "oversized"
    (images / "field.png").write_bytes((images / "field.png").read_bytes()[:-20])

    with pytest.raises(RefusedCellError, match="its field: ") as caught:
        pixels(path, entries(path)[0])

    assert caught.value.status == "undecodable"


def test_patterns_are_held_against_the_fields_name(images):
    """Not against the box behind it."""
    path = manifest(images, BOXES + "two.png,WBC,0,0,2,2\n")

    found = entries(path, selection=Selection(include=("two*",)))

    assert [entry.path for entry in found] == ["two.png#0,0,2,2"]

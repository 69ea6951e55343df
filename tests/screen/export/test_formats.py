"""Every format holds every row, and gives back what was written."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import cell, fault, make_results

from engines.errors import ResultsError
from screen.export import to_xlsx
from screen.export.formats import FORMATS, ExportOptions
from screen.export.write import write_export

BOXES = [pa.field(f"box_{name}", pa.float64()) for name in ("x", "y", "width", "height")]
BOX = {"box_x": 10.0, "box_y": 20.0, "box_width": 30.0, "box_height": 40.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of cells."""
    return tmp_path_factory.mktemp("cells")


@pytest.fixture(scope="module")
def results(tmp_path_factory, source):
    """Results of two slides, a bad cell and a path that a spreadsheet would compute."""
    out = tmp_path_factory.mktemp("made") / "results"
    cells = [
        cell("=1+1/0.png", "=1+1", 0.9),
        cell("a/1.png", "a", 0.2, focus=float("nan")),
        fault("a/2.png", "a", error="-truncated"),
    ]
    return make_results(out, cells, source=source)


@pytest.fixture(scope="module")
def boxed(tmp_path_factory, source):
    """Results of which two of three cells have a box."""
    out = tmp_path_factory.mktemp("boxed") / "results"
    cells = [
        cell("f.png#10,20,30,40", "f", 0.9, **BOX),
        fault("f.png#0,0,0,0", "f") | BOX,
        cell("g.png", "g", 0.1, **dict.fromkeys(BOX)),
    ]
    return make_results(out, cells, source=source, extra=BOXES)


def export(results, folder, to, **options):
    """Export; return the file and how many rows."""
    path = folder / f"export{FORMATS[to].ending}"
    return path, write_export(results, path, ExportOptions(to=to, **options))


def test_csv_holds_no_formula(results, tmp_path):
    """A spreadsheet shows what was written, and computes nothing."""
    path, written = export(results, tmp_path, "csv")

    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))

    assert written.rows == len(rows) == 3
    assert [row["path"] for row in rows] == ["'=1+1/0.png", "a/1.png", "a/2.png"]
    assert rows[2]["error"] == "'-truncated"
    assert rows[0]["prediction_set"] == "all"
    assert "evidence" not in rows[0]


def test_excel_holds_the_same_rows(results, tmp_path):
    """Texts as texts, numbers as numbers, nothing where there is nothing."""
    path, written = export(results, tmp_path, "xlsx")

    names, *rows = openpyxl.load_workbook(path)["cells"].iter_rows(values_only=True)
    first, second, third = (dict(zip(names, row, strict=True)) for row in rows)

    assert written.rows == 3
    assert first["path"] == "=1+1/0.png"
    assert first["prob_all"] == pytest.approx(0.9)
    assert first["positive"] is True
    assert second["focus"] is None
    assert third["status"] == "undecodable"
    assert not [
        c for row in openpyxl.load_workbook(path)["cells"] for c in row if c.data_type == "f"
    ]


def test_more_rows_than_excel_holds_are_refused(results, tmp_path, monkeypatch):
    """Before anything is written, and the hint says what to do."""
    monkeypatch.setattr(to_xlsx, "MOST_ROWS", 2)

    with pytest.raises(ResultsError, match="3 rows do not fit") as caught:
        export(results, tmp_path, "xlsx")

    assert "--slide" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_text_that_excel_would_cut_is_refused(source, tmp_path):
    """Nothing is lost in silence."""
    long = make_results(tmp_path / "r", [cell("a/" + "x" * 40_000, "a")], source=source)

    with pytest.raises(ResultsError, match="40,002 characters"):
        export(long, tmp_path, "xlsx")


def test_parquet_holds_every_column(results, tmp_path):
    """As it is in the parts, the shape of evidence maps included."""
    path, _ = export(results, tmp_path, "parquet")

    table, part = pq.read_table(path), pq.read_table(results / "cells" / "part-00000.parquet")

    assert table.drop_columns("focus").equals(part.drop_columns("focus"))
    assert b"slidescreen.evidence" in table.schema.metadata


@pytest.mark.parametrize("to", ["csv", "xlsx", "parquet"])
@pytest.mark.parametrize("slides", [False, True])
def test_an_export_is_known_again(results, tmp_path, to, slides):
    """And replaced without force; another file is not."""
    path, _ = export(results, tmp_path, to, slides=slides)

    export(results, tmp_path, to)
    path.write_bytes(b"mine")

    with pytest.raises(ResultsError, match="left alone"):
        export(results, tmp_path, to)


def test_geojson_is_a_detection_a_box(boxed, tmp_path):
    """With corners, class and scores as QuPath reads them; what has no box is counted."""
    path, written = export(boxed, tmp_path, "geojson")

    first, second = json.loads(path.read_text())["features"]

    assert (written.rows, written.left_out) == (2, 1)
    assert first["geometry"]["type"] == "Polygon"
    assert first["geometry"]["coordinates"] == [[[10, 20], [40, 20], [40, 60], [10, 60], [10, 20]]]
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"]["name"] == "all"
    assert first["properties"]["measurements"]["prob_all"] == pytest.approx(0.9)
    assert first["properties"]["metadata"]["image"] == "f.png"
    assert "classification" not in second["properties"]
    assert second["properties"]["metadata"]["status"] == "undecodable"
    export(boxed, tmp_path, "geojson")


@pytest.mark.parametrize("which", ["results", "boxed"])
def test_geojson_without_boxes_is_refused(which, tmp_path, request):
    """With the columns of boxes or without."""
    wanted = ("g",) if which == "boxed" else ()
    with pytest.raises(ResultsError, match="have a box"):
        export(request.getfixturevalue(which), tmp_path, "geojson", wanted=wanted)

    assert not list(tmp_path.iterdir())


def test_fiftyone_is_a_sample_a_cell(results, source, tmp_path):
    """In the layout of Dataset.to_json: file, tags, and a label with its confidence."""
    path, written = export(results, tmp_path, "fiftyone")

    found = json.loads(path.read_text())

    assert written.rows == len(found["samples"]) == 3
    assert found["media_type"] == "image"
    assert found["samples"][1] == {
        **found["samples"][1],
        "filepath": str(source / "a" / "1.png"),
        "tags": ["ok"],
        "slide": "a",
        "predicted": {
            "_cls": "Classification", "label": "hem", "confidence": pytest.approx(0.8)
        },
    }  # fmt: skip
    assert "focus" not in found["samples"][1]
    assert "predicted" not in found["samples"][2]
    assert found["samples"][2]["tags"] == ["undecodable"]
    export(results, tmp_path, "fiftyone")


@pytest.mark.parametrize("which", ["boxed", "gone"])
def test_fiftyone_needs_files_of_one_folder(which, boxed, tmp_path):
    """Boxes and a folder that is gone are refused."""
    made = boxed
    if which == "gone":
        made = make_results(tmp_path / "made", [cell("a/1.png", "a")], source="/gone")

    with pytest.raises(ResultsError, match="one folder"):
        export(made, tmp_path, "fiftyone")


def test_some_slides_are_exported(results, tmp_path):
    """By name, and a name that is not there is an error."""
    assert export(results, tmp_path, "csv", wanted=("a",))[1].rows == 2
    assert export(results, tmp_path, "xlsx", wanted=("a",), slides=True)[1].rows == 1
    with pytest.raises(ResultsError, match="no slide 'b'"):
        export(results, tmp_path, "csv", wanted=("b",))


@pytest.mark.parametrize("to", ["geojson", "fiftyone"])
def test_slides_go_where_they_can(to):
    """The others say so."""
    with pytest.raises(ResultsError, match="holds cells"):
        ExportOptions(to=to, slides=True)


def test_a_wrong_ending_is_an_error(results, tmp_path):
    """And the hint names the right one."""
    with pytest.raises(ResultsError, match=r"does not end in \.csv") as caught:
        write_export(results, tmp_path / "x.parquet", ExportOptions(to="csv"))

    assert "x.csv" in caught.value.hint


def command(*arguments, **given):
    """Run ``slidescreen export``."""
    line = [sys.executable, "-m", "screen.cli", "export", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, check=False, **given)


def test_dash_is_standard_output(results):
    """The file alone; what is said goes to stderr."""
    done = command(results, "--to", "parquet", "--out", "-")

    assert done.returncode == 0, done.stderr
    assert pq.read_table(io.BytesIO(done.stdout)).num_rows == 3
    assert b"3 rows" in done.stderr


def test_a_reader_may_leave_early(results):
    """As head does."""
    line = [sys.executable, "-m", "screen.cli", "export", str(results), "--to", "csv", "--out", "-"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(line, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)

    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


def test_the_ending_names_the_format(results, tmp_path):
    """Without --to; an ending of no format is wrong usage."""
    assert command(results, "--out", tmp_path / "a.xlsx").returncode == 0
    assert openpyxl.load_workbook(tmp_path / "a.xlsx").sheetnames == ["cells"]
    assert command(results, "--out", tmp_path / "a.txt").returncode == 2
    assert command(results, "--out", "-").returncode == 2

"""An export replaces what an export wrote, and nothing else unless it is told to."""

from __future__ import annotations

import os

import pytest
from made_results import cell, make_results

from engines.errors import ResultsError
from screen.export.formats import ExportOptions
from screen.export.write import write_export


def write_csv(results, path, **options):
    """Export to CSV; return how many rows."""
    return write_export(results, path, ExportOptions(to="csv", **options)).rows


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of three cells."""
    out = tmp_path_factory.mktemp("made") / "results"
    return make_results(out, [cell(f"a/{n}.png", "a") for n in range(3)], source="/cells")


@pytest.mark.parametrize("slides", [False, True])
def test_an_export_of_ours_is_replaced(results, tmp_path, slides):
    """Of cells or of slides, by either."""
    path = tmp_path / "table.csv"
    write_csv(results, path, slides=slides)

    assert write_csv(results, path) == 3
    assert write_csv(results, path, slides=True) == 1


@pytest.mark.parametrize("text", ["", "mine", "path,slide,status\n"])
def test_a_file_of_somebody_else_needs_force(results, tmp_path, text):
    """It is left as it is, and the hint says how to replace it."""
    path = tmp_path / "table.csv"
    path.write_text(text)

    with pytest.raises(ResultsError, match="left alone") as caught:
        write_csv(results, path)

    assert "--force" in caught.value.hint
    assert path.read_text() == text
    assert write_csv(results, path, force=True) == 3


def test_a_table_of_the_results_is_left_alone(results):
    """It is of slidescreen, but no export."""
    for name, to in (("run.json", "fiftyone"), ("slides.parquet", "parquet")):
        before = (results / name).read_bytes()

        with pytest.raises(ResultsError, match="left alone"):
            write_export(results, results / name, ExportOptions(to=to))

        assert (results / name).read_bytes() == before


def test_a_link_is_not_followed(results, tmp_path):
    """With force the link is replaced, not what it points to."""
    (tmp_path / "target").write_text("mine")
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "target")

    with pytest.raises(ResultsError, match="left alone"):
        write_csv(results, link)
    write_csv(results, link, force=True)

    assert (tmp_path / "target").read_text() == "mine"
    assert not link.is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="no pipes with names")
def test_a_pipe_is_left_alone_whatever_is_asked(results, tmp_path):
    """Nor is a device replaced by a file."""
    os.mkfifo(tmp_path / "pipe.csv")

    with pytest.raises(ResultsError, match="left alone"):
        write_csv(results, tmp_path / "pipe.csv", force=True)

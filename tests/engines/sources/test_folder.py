"""Which files are cells, what they are called, and which slide they belong to."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.cells import CellRef
from engines.errors import SourceError
from engines.sources import open_source
from engines.sources.names import escaped, unescaped
from engines.sources.slide_rule import UNMATCHED, SlideRule

NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, ord("/")})


@given(st.binary())
def test_any_bytes_survive_escaping(name):
    """A path is valid Unicode, and gives back the very bytes."""
    assert unescaped(escaped(name)) == name
    escaped(name).encode("utf-8")


@given(st.binary(), st.binary())
def test_two_names_never_share_an_escape(one, two):
    """Escaping is injective: no cell can take another's path."""
    assert (escaped(one) == escaped(two)) == (one == two)


def listed(folder):
    """Return the paths of a folder's cells."""
    return [entry.path for entry in open_source(folder).list()]


@pytest.mark.parametrize(
    "name",
    [
        b"a b.jpg",
        b"new\nline.png",
        "\u00e4\u7ec6\u80de.bmp".encode(),
        b"\xff\xfe.tif",
        b"back\\slash.jp2",
    ]
    + [b"-rf.webp", b"UPPER.JPG", b"x." + b"y" * 200 + b".jpe", b"<script>.dib", b"\x1b[31m.ppm"],
)
def test_any_name_is_found_and_read(tmp_path, name):
    """Spaces, newlines, any Unicode, any bytes: listed, and read back under that path."""
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(b"bytes of the cell")

    (path,) = listed(tmp_path)

    assert unescaped(path) == name
    assert open_source(tmp_path).read(CellRef(path, "s")) == b"bytes of the cell"


@pytest.fixture
def tree(tmp_path):
    """Cells, and everything that is none."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.jpg", "a.png", "deep/er/c.TIFF", "folder.jpg/d.bmp"):
        (tmp_path / name).touch()
    for name in ("notes.txt", ".e.jpg", "._f.jpg", "jpg", "deep/archive.jpg.zip", ".hidden/g.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "outside").symlink_to(tmp_path)
    (tmp_path / "link.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "to-folder.jpg").symlink_to(tmp_path / "deep")
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path


def test_cells_are_image_files_however_they_are_reached(tree):
    """Files and links to files count, a dangling link too; folders and hidden files do not."""
    assert listed(tree) == [
        "a.png",
        "b.jpg",
        "dangling.jpg",
        "deep/er/c.TIFF",
        "folder.jpg/d.bmp",
        "link.jpg",
    ]


def test_other_files_are_counted_and_named(tree):
    """What is left out is not silent."""
    listing = open_source(tree).list()
    list(listing)

    assert listing.others.count == 9
    assert 0 < len(listing.others.examples) <= 5


def test_a_pipe_in_a_cells_place_does_not_stop_the_run(tree):
    """Reading what is no file is an OSError at once."""
    with pytest.raises(OSError, match="not a regular file"):
        open_source(tree).read(CellRef("pipe.jpg", "s"))


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    """Its cells must not be lost in silence."""
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):
        if path.endswith(b"closed/"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)

    with pytest.raises(SourceError, match="cannot list the folder closed: Permission denied"):
        listed(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_a_source_that_is_no_folder_is_refused(tmp_path, name):
    """With a hint."""
    (tmp_path / "file.txt").touch()

    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / name)

    assert caught.value.hint


def slides(rule, *paths):
    """Apply a rule."""
    return [*map(SlideRule(rule).namer("source"), paths)]


def test_parent_is_the_folder_that_holds_the_cell():
    """Folders of one name in different places stay apart."""
    assert slides("parent", "a/x/1.jpg", "b/x/1.jpg", "1.jpg") == ["a/x", "b/x", "source"]


def test_a_folder_named_like_the_source_is_not_merged_with_it():
    """Two different sets of cells never share a slide."""
    with pytest.raises(SourceError, match="could not be told apart"):
        slides("parent", "1.jpg", "source/2.jpg")


def test_cnmc_subjects_are_compared_without_case():
    """Fold 2 writes both h3 and H3; what does not fit the pattern is unmatched."""
    names = ["all/UID_11_2_3_all.bmp", "UID_h3_1_1_hem.bmp", "UID_H3_1_2_hem.bmp", "600x600.bmp"]

    assert slides("cnmc", *names) == ["11", "H3", "H3", UNMATCHED]


def test_a_regular_expression_names_the_slide():
    """Searched anywhere in the path; an empty or missing group is unmatched."""
    rule = r"patient(?P<slide>\d*)"

    assert slides(rule, "x/patient7/1.jpg", "patient/2.jpg", "y.jpg") == ["7", UNMATCHED, UNMATCHED]


@pytest.mark.parametrize("rule", ["(", r"(\d+)", "grandparent"])
def test_a_rule_without_a_slide_is_refused(rule):
    """An expression that could name no slide is an error, not one big slide."""
    with pytest.raises(ValueError, match=r"regular expression|no group"):
        SlideRule(rule)

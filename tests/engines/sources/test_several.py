"""Several sources, single images, patterns, and which cells of them are wanted."""

from __future__ import annotations

import pytest

from engines.cells import CellRef
from engines.errors import SourceError
from engines.sources import Selection, SourceOptions, open_source
from engines.sources.slide_rule import SlideRule


@pytest.fixture
def tree(tmp_path):
    """Two folders of the same name, and loose images."""
    for name in ("one/s/a.png", "one/s/deep/b.jpg", "two/s/a.png", "loose/x.bmp", "loose/y.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "loose" / "notes.txt").touch()
    return tmp_path


def read(source):
    """Return the contents of every cell by path, each read by what its entry says."""
    return {
        entry.path: source.read(CellRef(entry.path, "", entry.locator)).decode()
        for entry in source.list()
    }


def slides(source):
    """Return the slide of every cell by path."""
    namer = SlideRule().namer(source.name)
    return {entry.path: namer(entry.path) for entry in source.list()}


def test_sources_of_one_name_get_a_number_by_where_they_are(tree):
    """In whatever order they are given, a cell keeps its path."""
    expected = {"s/a.png": "one/s/a.png", "s/deep/b.jpg": "one/s/deep/b.jpg"}
    expected["s-2/a.png"] = "two/s/a.png"

    for names in (["one/s", "two/s"], ["two/s", "one/s"]):
        assert read(open_source([tree / name for name in names])) == expected


def test_the_locations_of_a_source_open_it_again(tree):
    """As a report does, long after the run."""
    source = open_source([tree / "one/s", tree / "two/s", tree / "loose/x.bmp"])

    again = open_source(source.locations)

    for path, content in read(source).items():
        assert again.read(CellRef(path, "")).decode() == content


def test_a_single_image_is_a_cell_of_its_folder(tree):
    """Called by its name, and its slide is the folder."""
    source = open_source(tree / "loose/x.bmp")

    assert read(source) == {"x.bmp": "loose/x.bmp"}
    assert slides(source) == {"x.bmp": "loose"}


def test_images_of_one_folder_are_one_source(tree):
    """A shell's *.bmp is no thousand sources; beside a folder they keep their slide."""
    images = [tree / "loose/y.bmp", tree / "loose/x.bmp"]

    assert read(open_source(images)) == {"x.bmp": "loose/x.bmp", "y.bmp": "loose/y.bmp"}
    both = slides(open_source([*images, tree / "one/s"]))
    assert both == {
        "loose/x.bmp": "loose",
        "loose/y.bmp": "loose",
        "s/a.png": "s",
        "s/deep/b.jpg": "s/deep",
    }


def test_an_image_that_has_vanished_is_a_cell_without_a_size(tree):
    """Its row will say that it is unreadable; the others are as they were."""
    source = open_source([tree / "loose/x.bmp", tree / "loose/gone.bmp"])

    assert [(entry.path, entry.size) for entry in source.list()] == [
        ("gone.bmp", None),
        ("x.bmp", 11),
    ]


def test_a_pattern_stands_for_what_it_matches(tree):
    """Folders and images; files of other kinds do not match."""
    assert set(read(open_source(f"{tree}/*/s"))) == {"s/a.png", "s/deep/b.jpg", "s-2/a.png"}
    assert set(read(open_source(f"{tree}/loose/*"))) == {"x.bmp", "y.bmp"}


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(tmp_path):
    """What is there is meant."""
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a[1]" / "x.png").write_text("x")

    assert read(open_source(tmp_path / "a[1]")) == {"x.png": "x"}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(include=("*.jpg",)), {"deep/b.jpg"}),
        (Selection(exclude=("*.jpg",)), {"a.png"}),
        (Selection(include=("deep/*", "a.*"), exclude=("b.*",)), {"a.png"}),
    ],
)
def test_only_what_is_wanted_is_listed_and_the_rest_is_counted(tree, selection, expected):
    """What is left out by a pattern is not silent either."""
    listing = open_source(tree / "one/s", SourceOptions(selection=selection)).list()

    assert {entry.path for entry in listing} == expected
    assert listing.others.count == 2 - len(expected)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["one/s", "one/s"], "given twice"),
        (["nothing/*"], "nothing matches"),
        (["one/s", "nowhere"], "nothing at"),
        (["loose/nothing.png"], "nothing at"),
        (["loose/notes.txt"], "no source of cells"),
        ([], "no source is given"),
    ],
)
def test_what_is_no_source_is_refused(tree, names, message):
    """By name, with a hint."""
    with pytest.raises(SourceError, match=message) as caught:
        open_source([tree / name for name in names])

    assert caught.value.hint


def test_a_cell_of_a_source_that_is_not_given_is_not_there(tree):
    """A run that goes on with fewer sources says so of each cell."""
    source = open_source([tree / "one/s", tree / "loose/x.bmp"])

    assert source.size(CellRef("gone/a.png", "")) is None
    with pytest.raises(FileNotFoundError):
        source.read(CellRef("gone/a.png", ""))

"""What the cells really are, from tables and from names."""

from __future__ import annotations

import re

import pytest

from engines.errors import SourceError
from engines.sources.labels import FOREIGN, UNKNOWN, open_labels

CLASSES = ("hem", "all")


@pytest.fixture
def labels_file(tmp_path):
    """Write a table of labels."""

    def write(text, name="labels.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


def test_labels_are_read_from_a_table(labels_file):
    """By path; by name where the table has no folder; numbers are names; empty is unknown."""
    asked = labels_file("file,other,label\na/1.png,x,all\n2.png,y,hem\n3.png,z,07\n4.png,w,\n")

    codes = open_labels(asked, CLASSES).codes(["a/1.png", "b/2.png", "3.png", "4.png", "5.png"])

    assert codes.tolist() == [1, 0, FOREIGN, UNKNOWN, UNKNOWN]


def test_labels_are_read_from_names():
    """C-NMC's, and any regular expression's."""
    names = ["UID_H3_1_2_hem.bmp", "a/UID_11_1_2_all.bmp", "UID_11_1_all.bmp", "x_all.png"]

    assert open_labels("cnmc", CLASSES).codes(names).tolist() == [0, 1, UNKNOWN, UNKNOWN]
    assert open_labels("folders", CLASSES).codes(["all/1.png", "2.png"]).tolist() == [1, UNKNOWN]
    asked = r"_(?P<label>[a-z]+)\.png$"
    assert open_labels(asked, CLASSES).codes(names).tolist() == [UNKNOWN] * 3 + [1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,label\na.png,all\na.png,hem\n", "twice"),
        ("name,label\na.png,all\n", "path (or file) and label"),
        ("path,label\n1.png,all\n", "fits both"),
    ],
)
def test_labels_that_contradict_themselves_are_refused(labels_file, text, said):
    """Two labels for a cell, no such column, one row for two cells."""
    with pytest.raises(SourceError, match=re.escape(said)):
        open_labels(labels_file(text), CLASSES).codes(["a/1.png", "b/1.png"])


@pytest.mark.parametrize("asked", ["nothing.csv", "(", "(?P<slide>x)"])
def test_what_is_no_source_of_labels_is_refused(asked):
    """With what would be one."""
    with pytest.raises(SourceError) as caught:
        open_labels(asked, CLASSES)

    assert "cnmc" in caught.value.hint

"""Splits keep people and identical images on one side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.cells import CellRef
from engines.errors import SourceError
from train.data.labelled_cells import LabelledCell
from train.data.splits import Fold, leaks, split_cells, without_repeats


def cell(number, subject, label):
    """Make a labelled cell that no file backs."""
    return LabelledCell(CellRef(f"{label}/{number}.png", subject), label, Path(f"{number}.png"))


def people(sizes):
    """Make cells of subjects 0, 1, ... with so many cells each, classes in turn."""
    cells = []
    for subject, size in enumerate(sizes):
        label = ("all", "hem")[subject % 2]
        cells += [cell(f"{subject}-{i}", str(subject), label) for i in range(size)]
    return cells


SIZES = st.lists(st.integers(1, 30), min_size=8, max_size=30)


@given(SIZES, st.integers(0, 3), st.integers(0, 5))
def test_no_subject_is_on_both_sides(sizes, fold, seed):
    """Split by subject: both sides have both classes, and no person in common."""
    cells = people(sizes)
    hashes = [c.ref.path for c in cells]

    split = split_cells(cells, hashes, "subject", Fold(4, fold, seed))

    sides = [[cells[i] for i in side] for side in (split.training, split.held_out)]
    assert not leaks(sides[0], [], sides[1], [])
    assert sorted([*split.training, *split.held_out]) == list(range(len(cells)))
    assert [{c.label for c in side} for side in sides] == [{"all", "hem"}] * 2


@given(SIZES, st.integers(0, 5))
def test_every_cell_is_held_out_once(sizes, seed):
    """The parts cover all cells and do not overlap."""
    cells = people(sizes)
    hashes = [c.ref.path for c in cells]

    parts = [split_cells(cells, hashes, "subject", Fold(4, f, seed)).held_out for f in range(4)]

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(cells)))


@given(SIZES, st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=3))
def test_people_who_share_an_image_stay_together(sizes, pairs):
    """An identical image under two subject ids joins the two."""
    cells = people([*sizes, *sizes])
    hashes = [c.ref.path for c in cells]
    for one, two in pairs:
        hashes[one % len(hashes)] = hashes[two % len(hashes)]
    try:
        split = split_cells(cells, hashes, "subject", Fold(3, 0, 0))
    except SourceError:
        return  # the joined people are too few to deal

    sides = ({hashes[i] for i in side} for side in (split.training, split.held_out))
    assert not set.intersection(*sides)


def test_split_by_image_tears_people_but_not_images():
    """The paper's protocol puts people on both sides; identical images still stay together."""
    cells = people([20, 20])
    hashes = [f"{i // 2}" for i in range(40)]

    split = split_cells(cells, hashes, "image", Fold(4, 0, 0))

    one, two = ([cells[i] for i in side] for side in (split.training, split.held_out))
    shared = leaks(
        one, [hashes[i] for i in split.training], two, [hashes[i] for i in split.held_out]
    )
    assert shared.subjects == ("0", "1")
    assert shared.images == ()


def test_cells_of_unknown_people_cannot_be_split_by_subject():
    """The error names such a cell and the two ways out."""
    cells = [*people([3, 3, 3, 3]), cell("x", "", "all")]

    with pytest.raises(SourceError, match=r"whose cell is all/x\.png") as caught:
        split_cells(cells, [c.ref.path for c in cells], "subject", Fold(2, 0, 0))

    assert "--subject" in caught.value.hint


def test_too_few_people_are_refused():
    """A part without one of the classes cannot judge anything."""
    cells = people([5, 5])

    with pytest.raises(SourceError, match="part has no cells of class"):
        split_cells(cells, [c.ref.path for c in cells], "subject", Fold(2, 0, 0))


def test_of_repeated_images_one_is_kept_and_of_contradictory_ones_none():
    """An image under two classes teaches nothing but noise."""
    cells = [cell(0, "1", "all"), cell(1, "1", "all"), cell(2, "2", "hem"), cell(3, "1", "all")]

    kept, left_out = without_repeats(cells, ["a", "a", "b", "b"])

    assert kept.tolist() == [0]
    assert [c.ref.path for c in left_out] == ["all/1.png", "hem/2.png", "all/3.png"]


def test_unreadable_files_are_not_each_others_repeats():
    """Without a hash a cell equals no other."""
    cells = people([2, 2])

    kept, left_out = without_repeats(cells, [""] * 4)

    assert (len(kept), left_out) == (4, ())

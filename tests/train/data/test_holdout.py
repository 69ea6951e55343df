"""What goes into a training: people who share an image together, each image once, no leak."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engines.errors import SourceError
from train.data.holdout import parts_of
from train.data.labelled_cells import open_labelled
from train.data.splits import Fold


def listed(*folders):
    """List drawn cells."""
    return open_labelled(folders)


def subjects(cells):
    """Name whose cells they are."""
    return {cell.subject for cell in cells}


@pytest.mark.parametrize("fold", range(3))
@pytest.mark.parametrize("seed", range(3))
def test_people_who_share_an_image_stay_together(draw, tmp_path, fold, seed):
    """And the image is there once."""
    folder = draw(tmp_path / "cells")
    shutil.copy(folder / "all/UID_1_1_1_all.png", folder / "all/UID_2_99_1_all.png")

    parts = parts_of(listed(folder), "subject", Fold(3, fold, seed))

    assert ({"1", "2"} <= subjects(parts.training)) or ({"1", "2"} <= subjects(parts.held_out))
    assert [Path(cell.ref.path).name for cell in parts.repeated] == ["UID_2_99_1_all.png"]
    assert not parts.shared


def test_cells_held_out_by_hand_are_cleaned_as_others_are(cells, draw, tmp_path):
    """An image twice among them counts once."""
    other = draw(tmp_path / "other", seed=9)
    for file in list(other.rglob("*.png")):
        file.rename(file.with_name(file.name.replace("UID_", "UID_N")))
    shutil.copy(other / "all/UID_N1_1_1_all.png", other / "all/UID_N1_99_1_all.png")

    parts = parts_of(listed(cells), "subject", Fold(3, 0, 0), listed(other))

    assert len(parts.held_out) == 48
    assert len(parts.repeated) == 1


def test_cells_of_nobody_cannot_be_held_out_by_subject(cells, draw, tmp_path):
    """Nobody can tell whether the model has seen them."""
    other = draw(tmp_path / "other", seed=9)
    for number, file in enumerate(list(other.rglob("*.png"))):
        file.rename(file.with_name(f"{number}.png"))

    with pytest.raises(SourceError, match="whose cell is"):
        parts_of(listed(cells), "subject", Fold(3, 0, 0), listed(other))


def test_one_class_cannot_be_held_out(cells, draw, tmp_path):
    """There would be nothing to tell apart."""
    other = draw(tmp_path / "other", seed=9)

    with pytest.raises(SourceError, match="the held-out part has no cells of class hem"):
        parts_of(listed(cells), "subject", Fold(3, 0, 0), listed(other / "all"))

"""Labelled cells are read from every layout they come in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from engines.errors import SourceError
from train.data.labelled_cells import content_hashes, limited, open_labelled

REAL = Path("../shared/cells")


def test_class_folders_give_label_and_subject(cells):
    """The folder that holds a cell is its class, its name says whose it is."""
    found = open_labelled([cells])

    assert len(found) == 48
    assert {cell.label for cell in found} == {"all", "hem"}
    assert len({cell.subject for cell in found}) == 12


def test_folds_above_the_class_folders_change_nothing(draw, tmp_path):
    """C-NMC as downloaded has fold_0/all, fold_1/hem and so on."""
    draw(tmp_path / "c" / "fold_0", subjects=1, each=1)
    draw(tmp_path / "c" / "fold_1", subjects=1, each=1)

    found = open_labelled([tmp_path / "c"])

    assert [cell.ref.path.split("/")[:2] for cell in found] == [
        ["fold_0", "all"], ["fold_0", "hem"], ["fold_1", "all"], ["fold_1", "hem"],
    ]  # fmt: skip


def test_subjects_are_compared_without_case(tmp_path, cells):
    """One subject of C-NMC is written H3 and h3."""
    (tmp_path / "hem").mkdir()
    one = cells / "hem" / "UID_H1_1_1_hem.png"
    shutil.copy(one, tmp_path / "hem" / "UID_H1_1_1_hem.png")
    shutil.copy(one, tmp_path / "hem" / "UID_h1_2_1_hem.png")

    assert {cell.subject for cell in open_labelled([tmp_path])} == {"H1"}


def test_subjects_that_differ_by_case_stay_two_people(tmp_path, cells):
    """But for C-NMC's own names, a subject is whoever the user says it is."""
    cell = next((cells / "all").iterdir())
    rows = "path,label,subject\n" + "".join(f"{s}.png,all,{s}\n" for s in ("a1", "A1"))
    (tmp_path / "m.csv").write_text(rows)
    for subject in ("a1", "A1"):
        (tmp_path / f"{subject}.png").write_bytes(cell.read_bytes())

    named = open_labelled([tmp_path / "m.csv"])
    matched = open_labelled([tmp_path], r"(?P<subject>[aA]1)\.png$")

    assert {c.subject for c in named} == {c.subject for c in matched} == {"a1", "A1"}


def test_second_phase_labels_come_from_its_csv(tmp_path, cells):
    """The challenge's second phase has numbered images and a CSV of their old names."""
    folder = tmp_path / "phase2"
    folder.mkdir()
    shutil.copy(cells / "all" / "UID_1_1_1_all.png", folder / "1.png")
    shutil.copy(cells / "hem" / "UID_H1_1_1_hem.png", folder / "2.png")
    (tmp_path / "labels.csv").write_text(
        "Patient_ID,new_names,labels\nUID_57_29_1_all.bmp,1.png,1\nUID_H30_6_2_hem.bmp,2.png,0\n"
    )

    found = open_labelled([tmp_path])

    assert [(c.ref.path, c.label, c.subject) for c in found] == [
        ("phase2/1.png", "all", "57"), ("phase2/2.png", "hem", "H30"),
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_manifest_names_path_label_and_subject(tmp_path, cells, suffix):
    """A CSV or Parquet manifest gives the same cells, its own labels and subjects."""
    table = pa.table({"path": ["all/UID_1_1_1_all.png"], "label": ["blast"], "subject": ["anna"]})
    manifest = tmp_path / f"m{suffix}"
    shutil.copytree(cells, tmp_path, dirs_exist_ok=True)
    (csv.write_csv if suffix == ".csv" else parquet.write_table)(table, manifest)

    (cell,) = open_labelled([manifest])

    assert (cell.label, cell.subject, cell.file.exists()) == ("blast", "ANNA", True)


def test_numbers_in_a_csv_stay_as_written(tmp_path):
    """Subject 007 is not subject 7."""
    (tmp_path / "m.csv").write_text("file,label,subject\na.png,1,007\n")

    (cell,) = open_labelled([tmp_path / "m.csv"])

    assert (cell.label, cell.subject) == ("1", "007")


def test_two_sources_cannot_collide(tmp_path, draw):
    """The same path in two sources stays two cells, told apart by the source's name."""
    one, two = draw(tmp_path / "one", 1, 1), draw(tmp_path / "two", 1, 1)

    found = open_labelled([one, two])

    assert sorted(cell.ref.path.split("/")[0] for cell in found) == ["one", "one", "two", "two"]


def test_a_cell_listed_twice_is_refused(tmp_path):
    """It would count twice."""
    (tmp_path / "m.csv").write_text("file,label\na.png,x\na.png,x\n")

    with pytest.raises(SourceError, match=r"listed more than once, a\.png first"):
        open_labelled([tmp_path / "m.csv"])


@pytest.mark.parametrize(
    ("content", "message"),
    [("path,class\na.png,x\n", "has the columns path, class"), ("", "cannot read|has the columns")],
)
def test_a_manifest_without_its_columns_is_refused(tmp_path, content, message):
    """The error names the columns that are there."""
    (tmp_path / "m.csv").write_text(content)

    with pytest.raises(SourceError, match=message):
        open_labelled([tmp_path / "m.csv"])


@pytest.mark.parametrize(("rule", "message"), [("(", "no regular expression"), ("x", "no group")])
def test_a_subject_rule_must_be_a_regex_with_its_group(cells, rule, message):
    """A rule that could never name a subject is refused."""
    with pytest.raises(SourceError, match=message):
        open_labelled([cells], rule)


def test_an_empty_folder_is_refused(tmp_path):
    """A source without cells is an error, not an empty training."""
    with pytest.raises(SourceError, match="no labelled cells"):
        open_labelled([tmp_path])


def test_a_file_that_is_no_manifest_is_refused(tmp_path):
    """What is neither a folder nor a manifest is named."""
    (tmp_path / "x.txt").write_text("")

    with pytest.raises(SourceError, match="neither a folder nor a manifest"):
        open_labelled([tmp_path / "x.txt"])


def test_a_limit_keeps_every_class(cells):
    """A quick try sees all classes."""
    found = limited(open_labelled([cells]), 6)

    assert len(found) == 6
    assert {cell.label for cell in found} == {"all", "hem"}


def test_a_file_that_cannot_be_read_has_no_hash(tmp_path):
    """It is found out later, by name, and never equal to another."""
    (tmp_path / "m.csv").write_text("file,label\ngone.png,x\n")

    assert content_hashes(open_labelled([tmp_path / "m.csv"])) == [""]


@pytest.mark.realcells
@pytest.mark.skipif(not REAL.exists(), reason="real cells are not here")
def test_the_real_folders_hold_43_subjects():
    """Both C-NMC folds are read whole, h3 and H3 being one."""
    found = open_labelled([REAL / "cnmc-fold0", REAL / "cnmc-fold2"])

    assert len(found) == 4252
    assert len({cell.subject for cell in found}) == 43


def test_a_manifest_row_without_label_is_refused(tmp_path):
    """It is of no class, and not of one without a name."""
    (tmp_path / "m.csv").write_text("file,label\na.png,x\nb.png,\n")

    with pytest.raises(SourceError, match=r"without path or label: b\.png"):
        open_labelled([tmp_path / "m.csv"])


def test_words_that_look_like_nothing_stay_words(tmp_path):
    """A subject called NA is a subject."""
    (tmp_path / "m.csv").write_text("file,label,subject\na.png,null,NA\n")

    (cell,) = open_labelled([tmp_path / "m.csv"])

    assert (cell.label, cell.subject) == ("null", "NA")

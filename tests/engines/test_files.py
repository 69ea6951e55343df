"""Files are whole or absent."""

from __future__ import annotations

import pytest

from engines.files import discard_scratch, whole_file


def test_a_file_appears_when_the_block_ends(tmp_path):
    """While it is written, nobody sees it."""
    with whole_file(tmp_path / "file") as scratch:
        scratch.write_text("half")
        assert not (tmp_path / "file").exists()
        scratch.write_text("whole")

    assert (tmp_path / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    """An exception keeps the old file and no trace of the new."""
    (tmp_path / "file").write_text("old")

    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "file") as scratch:
        scratch.write_text("new")
        raise ZeroDivisionError

    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_scratch_of_a_killed_process_is_removed(tmp_path):
    """Only scratch of such a file goes."""
    kept = [".hidden", ".notes.scratch", ".other.0123abcd.scratch"]
    for name in (".file.0123abcd.scratch", *kept):
        (tmp_path / name).touch()

    discard_scratch(tmp_path, "file")

    assert sorted(path.name for path in tmp_path.iterdir()) == kept

"""Files are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.files import (
    discard_scratch,
    open_regular,
    read_json,
    read_regular,
    sha256_of_file,
    whole_file,
)


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFO files")
def test_a_pipe_is_not_waited_for(tmp_path):
    """Nobody writes to it, so reading it would never end."""
    os.mkfifo(tmp_path / "pipe.json")

    for read in (sha256_of_file, read_json, open_regular):
        with pytest.raises(OSError, match="not a regular file"):
            read(tmp_path / "pipe.json")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no endless file")
def test_an_endless_file_is_not_read(tmp_path):
    """A link to a device is not hashed for ever."""
    (tmp_path / "weights").symlink_to("/dev/zero")

    with pytest.raises(OSError, match="not a regular file"):
        sha256_of_file(tmp_path / "weights")


def test_a_file_is_read_up_to_a_bound(tmp_path):
    """What is longer is refused before it is read."""
    (tmp_path / "a").write_bytes(b"12345")

    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4"):
        read_regular(tmp_path / "a", 4)


def test_json_that_nests_without_end_is_no_json(tmp_path):
    """Python's reader would run out of stack."""
    (tmp_path / "deep.json").write_text("[" * 100_000)

    with pytest.raises(ValueError, match=r"nests too deeply|Expecting"):
        read_json(tmp_path / "deep.json")

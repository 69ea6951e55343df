"""A table is trusted only while it is, byte for byte, what its record lists."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import cell, fingerprint, make_results

from engines.errors import ResultsError
from screen.export.formats import ExportOptions
from screen.export.write import write_export
from screen.results.discard import discardable
from screen.results.folder import ResultsFolder, open_results
from screen.results.parts import committed_parts, whole_parts
from screen.results.table_records import check_table, read_record, write_recorded
from screen.results.tables import read_table

MARK = fingerprint("/cells")
CELLS = [cell(f"a/{n:02}.png", "a", p=n / 30) for n in range(30)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Results of five parts."""
    out = tmp_path_factory.mktemp("made") / "results"
    return ResultsFolder(make_results(out, CELLS, source="/cells"))


@pytest.fixture
def results(made, tmp_path):
    """A copy of them, to be damaged."""
    return ResultsFolder(shutil.copytree(made.path, tmp_path / "results"))


def test_whole_parts_are_in_the_order_of_the_plan(results):
    """Each with its record, and with as many rows as it says."""
    parts = whole_parts(results, MARK.digest)

    assert list(parts) == [results.part(index) for index in range(5)]
    assert [part.rows for part in parts.values()] == [7, 7, 7, 7, 2]
    assert list(committed_parts(results, 5, MARK)) == list(range(5))


@given(data=st.data())
@settings(max_examples=60)
def test_any_flipped_bit_is_noticed(made, data):
    """In whatever part, page, header or footer it is."""
    path = made.part(data.draw(st.integers(0, 4)))
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    try:
        with pytest.raises(ResultsError, match=r"is damaged|does not belong"):
            check_table(made, path, MARK.digest)
    finally:
        path.write_bytes(whole)


def swapped(results):
    """Copy a part over another."""
    shutil.copy(results.part(1), results.part(2))


def swapped_with_its_record(results):
    """And the record, too."""
    swapped(results)
    shutil.copy(results.record_of(results.part(1)), results.record_of(results.part(2)))


def cut_off(results):
    """Lose the end of a part."""
    results.part(2).write_bytes(results.part(2).read_bytes()[:-100])


def without_record(results):
    """Lose a part's record."""
    results.record_of(results.part(2)).unlink()


def with_a_damaged_record(results):
    """Change a record."""
    results.record_of(results.part(2)).write_text('{"fingerprint": 1')


def of_another_run(results):
    """Take a part of other results, record and all."""
    other = fingerprint("/elsewhere")
    table = read_table(results.part(2))
    write_recorded(results, results.part(2), table, other)


DAMAGE = (
    swapped,
    swapped_with_its_record,
    cut_off,
    without_record,
    with_a_damaged_record,
    of_another_run,
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_whole_is_screened_again_and_never_read(results, damage, caplog):
    """A resume counts it as not done and says so; whoever would read it is refused."""
    damage(results)

    assert list(committed_parts(results, 5, MARK)) == [0, 1, 3, 4]
    assert "screened again" in caplog.text
    with pytest.raises(ResultsError, match="part-00002") as caught:
        whole_parts(results, MARK.digest)
    assert "run the same command again" in caught.value.hint
    with pytest.raises(ResultsError):
        write_export(results.path, results.path / "cells.csv", ExportOptions(to="csv"))


def test_damaged_slides_are_not_exported(results):
    """Nor shown."""
    results.slides.write_bytes(results.slides.read_bytes()[:-1])

    with pytest.raises(ResultsError, match=r"slides\.parquet is damaged"):
        write_export(
            results.path, results.path / "slides.csv", ExportOptions(to="csv", slides=True)
        )


@pytest.mark.parametrize("damage", DAMAGE)
def test_restart_may_remove_what_a_record_lists(results, damage):
    """Or what carries our mark; so a damaged folder can be begun anew."""
    damage(results)

    found = discardable(results)

    assert set(results.tables) <= set(found)
    assert {results.run_json, results.record_of(results.part(0))} <= set(found)


def test_restart_removes_a_damaged_run_json(results):
    """One that still says that it is of a run."""
    results.run_json.write_bytes(results.run_json.read_bytes()[:-30])

    assert results.run_json in discardable(results)


@pytest.mark.parametrize("name", ["part-00007.json", "slides.json"])
def test_restart_leaves_a_strangers_file_among_the_records(results, name):
    """It has the name of a record and is none."""
    (results.records / name).write_text("mine")

    with pytest.raises(ResultsError, match="left alone"):
        discardable(results)


def test_a_record_says_what_was_written(results):
    """Path, hash, size, rows, and which codec decoded how many."""
    table = pa.table({"path": ["a", "b", "c"], "codec": ["pillow", None, "pillow"]})

    written = write_recorded(results, results.part(5), table, MARK, 3)

    assert written == read_record(results, results.part(5))
    assert json.loads(results.record_of(results.part(5)).read_text()) == {
        "table": "cells/part-00005.parquet",
        "fingerprint": MARK.digest,
        "sha256": written.sha256,
        "size": results.part(5).stat().st_size,
        "rows": 3,
        "revision": 3,
        "codecs": {"pillow": 2},
    }
    assert (written.scored, written.bad) == (2, 1)


def test_checksums_of_pages_are_checked_by_every_reader(results):
    """A byte changed in a page is an error for who reads the part without its record, too."""
    path = results.part(0)
    whole = bytearray(path.read_bytes())
    start = whole.index(b"a/01.png") if b"a/01.png" in whole else len(whole) // 8
    whole[start] ^= 1
    path.write_bytes(bytes(whole))

    with pytest.raises((OSError, ValueError)):
        open_results(results.path).to_table()
    with pytest.raises(ResultsError, match="cannot read"):
        read_table(path)

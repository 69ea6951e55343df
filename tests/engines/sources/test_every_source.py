"""What holds for every kind of source: the contract of ``engines.sources.base``."""

from __future__ import annotations

import os
import pickle

import pytest
from made_sources import KINDS, made_source

from engines.cells import CellRef, RefusedCellError
from engines.sources import SourceOptions, open_source
from engines.sources.names import unescaped


def content(source, entry):
    """Read a cell by what its entry says; if it is refused, say why."""
    try:
        return source.read(CellRef(entry.path, "", entry.locator))
    except RefusedCellError as refused:
        return refused.status, refused.strerror, refused.data


def contents(source, entries):
    """Return the bytes of every cell by path."""
    return {entry.path: content(source, entry) for entry in entries}


@pytest.fixture(params=KINDS)
def places(request, cells, tmp_path):
    """The cells of the folder ``cells``, as every kind of source."""
    return made_source(request.param, cells, tmp_path / "made")


def test_a_pickled_source_reads_the_same_cells(places):
    """As a worker process does, before and after the source has been used."""
    source = open_source(places)
    fresh = pickle.dumps(source)
    entries = list(source.list())
    expected = contents(source, entries)

    assert expected
    for pickled in (fresh, pickle.dumps(source)):
        assert contents(pickle.loads(pickled), entries) == expected  # noqa: S301 - our own


def test_a_cell_is_found_by_its_locator_alone(places):
    """As by a report, which knows none of the options that the run had."""
    source = open_source(places, SourceOptions(box_margin=3, columns=("label=",)))
    entries = list(source.list())
    again = open_source([os.fsdecode(unescaped(each)) for each in source.locations])

    assert contents(again, entries) == contents(source, entries)


def test_a_source_lists_the_same_every_time(places):
    """In the same order, under names that are unique."""
    source = open_source(places)
    entries = list(source.list())

    assert entries == list(open_source(places).list())
    assert len({entry.path for entry in entries}) == len(entries)
    assert {len(entry.carried) for entry in entries} == {len(source.carried)}

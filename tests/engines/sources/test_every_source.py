"""What holds for every kind of source: the contract of ``engines.sources.base``."""

from __future__ import annotations

import pickle

import pytest
from made_sources import KINDS, made_source

from engines.cells import CellRef
from engines.sources import open_source


def contents(source, entries):
    """Return the bytes of every cell by path, each read by what its entry says."""
    return {entry.path: source.read(CellRef(entry.path, "", entry.locator)) for entry in entries}


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

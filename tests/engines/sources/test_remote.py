"""Cells behind a URL are fetched several at once, before they are read one by one."""

from __future__ import annotations

import io
import threading
import time

import pytest
from draw_cells import draw_cell

from engines.cells import CellRef, Shard
from engines.decode.base import DecodeOptions
from engines.decode.pillow import open_decoder
from engines.locations import location
from engines.models.input import ModelInput
from engines.sources import open_source


class SlowBucket:
    """Files in memory, each of which takes 50 ms to come; counts how many are on their way."""

    def __init__(self, place, monkeypatch):
        """Stand between a place and whoever fetches from it."""
        self.most, self.now, self.fetched = 0, 0, []
        self._lock, self._fetch = threading.Lock(), place.fs.cat_file
        monkeypatch.setattr(type(place.fs), "cat_file", lambda _, path: self.fetch(path))

    def fetch(self, path):
        """Fetch a file."""
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        with self._lock:
            self.now -= 1
            self.fetched.append(path)
        return self._fetch(path)


@pytest.fixture
def place(tmp_path):
    """Two folders of cells in memory."""
    place = location(f"memory://{tmp_path.name}")
    for number in range(12):
        data = io.BytesIO()
        draw_cell(number, (40, 30)).save(data, "PNG")
        place.fs.pipe_file(f"{place.path}/{'ab'[number % 2]}/{number:02}.png", data.getvalue())
    return place


def test_a_batch_is_fetched_at_once(place, monkeypatch):
    """By the one thread that decodes, each cell once; from several sources, too."""
    bucket = SlowBucket(place, monkeypatch)
    expected = ModelInput(height=32, width=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    options = DecodeOptions(batch=12, threads=1)
    source = open_source([place / "a", place / "b"])
    refs = tuple(CellRef(each.path, "", each.locator) for each in source.list())

    (batch,) = open_decoder(source.read, expected, options).stream([Shard(0, refs)])

    assert batch.refs == refs
    assert bucket.most >= 6
    assert len(bucket.fetched) == len(set(bucket.fetched)) == 12


def test_what_is_never_read_makes_room(place, monkeypatch):
    """Or nothing more could be fetched ahead after a run that was left."""
    monkeypatch.setattr("engines.sources.remote.AHEAD", 4)
    bucket = SlowBucket(place, monkeypatch)
    source = open_source(place)
    refs = [CellRef(each.path, "", each.locator) for each in source.list()]

    source.read_ahead(refs[:4])
    source.read_ahead(refs[4:8])
    bytes_ = [source.read(ref) for ref in refs[4:8]]

    assert all(each.startswith(b"\x89PNG") for each in bytes_)
    assert bucket.most >= 4
